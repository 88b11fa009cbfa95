// What tags cost; under another malloc than Tally they do nothing, so that the same figures show
// the noise. Modes:
//   small-1, small-64    2 MiB live in 8 threads, under 1 tag or 64 in each: footprint and RSS
//   above large-1, large-64    what the program asked for; and with 512 MiB time the same
//   replacement of blocks in no scope, in scopes of 1 tag and of 32 idle                 1,000 tags
//   that had one block each
#include "tags.hpp"

#include <pthread.h>

#include <atomic>

#include "report.hpp"
#include "workload.hpp"

using namespace workload;

namespace {

// ---- Memory

constexpr int kThreads = 8;

// The threads keep their blocks until it has been measured.
void memory(const char* point, int tag_count, uint64_t target) {
  const Tags tags("memory", tag_count);
  pthread_barrier_t ready, leave;
  pthread_barrier_init(&ready, nullptr, kThreads + 1);
  pthread_barrier_init(&leave, nullptr, kThreads + 1);
  std::atomic<uint64_t> asked_for{0};
  const double before = resident();
  std::thread measuring([&] {
    pthread_barrier_wait(&ready);
    const auto asked = static_cast<double>(asked_for.load());
    report("asked for", point, "MiB", asked / kMiB);
    report("RSS above that", point, "MiB", (resident() - before - asked) / kMiB);
    if (tags.live()) {
      const tally_counts counts = tags.counts();
      report("footprint above live", point, "MiB",
             static_cast<double>(counts.footprint_bytes - counts.live_bytes) / kMiB);
    }
    pthread_barrier_wait(&leave);
  });
  run_threads(kThreads, [&](int index) {
    Random random(static_cast<uint64_t>(index) + 1);
    std::vector<Block> blocks;
    blocks.reserve(target / kThreads / 64);  // more than it needs, so that it is never copied
    uint64_t mine = 0;
    while (mine < target / kThreads) {
      tags.push(blocks.size() % tags.count());
      Block block = allocate(random.skewed(16, 6));
      tags.pop();
      // Touched whole, so that RSS can be compared with what was asked for.
      std::memset(block.bytes, block.mark(), block.size);
      blocks.push_back(block);
      mine += block.size;
    }
    asked_for += mine + blocks.size() * sizeof(Block);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&leave);
    std::for_each(blocks.begin(), blocks.end(), release);
  });
  measuring.join();
}

// ---- Time

// Blocks of 16 to 1023 bytes, replaced at random.
class Replacing {
 public:
  Replacing(const char* name, int tag_count) : tags_(name, tag_count), blocks_(20000) {
    run(20000);
    seconds_ = 0;
  }
  ~Replacing() { std::for_each(blocks_.begin(), blocks_.end(), release); }

  void run(long count) {
    const Clock clock;
    for (long i = 0; i < count; ++i) {
      Block& block = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
      release(block);
      if (tags_.count() == 0) {
        block = allocate(random_.skewed(16, 6));
        continue;
      }
      tags_.push(static_cast<size_t>(i) % tags_.count());
      block = allocate(random_.skewed(16, 6));
      tags_.pop();
    }
    seconds_ += clock.seconds();
  }
  double seconds() const { return seconds_; }

 private:
  Tags tags_;
  std::vector<Block> blocks_;
  Random random_{1};
  double seconds_ = 0;
};

void time(long operations) {
  constexpr int kTurns = 40;  // they take turns, so that noise hits all
  Replacing none("none", 0), one("one", 1), many("many", 32);
  for (int turn = 0; turn < kTurns; ++turn) {
    for (Replacing* each : {&none, &one, &many}) each->run(operations / kTurns);
  }
  const double ns = 1e9 / static_cast<double>(operations);
  report("replacement", "in no scope", "ns", none.seconds() * ns);
  report("replacement", "in scopes of 1 tag", "ns", one.seconds() * ns);
  report("replacement", "in scopes of 32 tags", "ns", many.seconds() * ns);
  report("replacement", "32 tags to 1", "ratio", many.seconds() / one.seconds());
}

// ---- Idle

void idle(int count) {
  // The first one alone brings what there is once a process.
  const Tags first("first", 1);
  first.push(0);
  Block block = allocate(100);
  first.pop();
  release(block);
  const double before = resident();
  const Tags tags("idle", count);
  for (size_t i = 0; i < tags.count(); ++i) {
    tags.push(i);
    block = allocate(100);
    tags.pop();
    release(block);
  }
  report("idle tag", "RSS", "KiB", (resident() - before) / count / 1024);
  // The thread goes on with other things for a while.
  for (int i = 0; i < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::vector<Block> others(1000);
    for (int j = 0; j < 100; ++j) {
      for (Block& other : others) other = allocate(500);
      for (Block& other : others) release(other);
    }
  }
  report("idle tag, a while later", "RSS", "KiB", (resident() - before) / count / 1024);
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const uint64_t large = static_cast<uint64_t>(args.work(512)) << 20;
  if (args.mode() == "small-1") {
    memory("2 MiB under 1 tag", 1, 2 << 20);
  } else if (args.mode() == "small-64") {
    memory("2 MiB under 64 tags", 64, 2 << 20);
  } else if (args.mode() == "large-1") {
    memory("512 MiB under 1 tag", 1, large);
  } else if (args.mode() == "large-64") {
    memory("512 MiB under 64 tags", 64, large);
  } else if (args.mode() == "time") {
    time(args.work(8000000));
  } else {
    idle(1000);
  }
}
