// What tags cost; under another malloc than Tally they do nothing, so that the same figures show
// the noise. Modes:
//   small-1, small-64    2 MiB live in 8 threads, under 1 tag or 64 in each: footprint and RSS
//                        above what the program asked for
//   large-1, large-64    the same with 512 MiB
//   time                 replacement of blocks in no scope, in scopes of 1 tag and of 32
//   idle                 1,000 tags that had one block each: at once, later, and 1,000 more
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

// Blocks of 16 to 1023 bytes, replaced at random. Of all that are live, which is what spreads them
// most: each of 32 tags has a few of each size. Or, as programs are, of one part's: 32 of them,
// each with its own blocks, take turns of 200 operations.
class Replacing {
 public:
  Replacing(const char* name, int tag_count, bool parts)
      : tags_(name, tag_count), parts_(parts), blocks_(kParts * kBlocks) {
    run(2 * kParts * kBlocks);
    seconds_ = 0;
  }
  ~Replacing() { std::for_each(blocks_.begin(), blocks_.end(), release); }

  void run(long count) {
    const Clock clock;
    if (parts_) {
      for (long i = 0; i < count; i += kTurn) take_turn();
    } else {
      for (long i = 0; i < count; ++i) replace_any(static_cast<size_t>(i));
    }
    seconds_ += clock.seconds();
  }
  double seconds() const { return seconds_; }

 private:
  static constexpr uint32_t kParts = 32, kBlocks = 625, kTurn = 200;

  void replace_any(size_t number) {
    Block& block = blocks_[random_.below(kParts * kBlocks)];
    release(block);
    if (tags_.count() != 0) tags_.push(number % tags_.count());
    block = allocate(random_.skewed(16, 6));
    if (tags_.count() != 0) tags_.pop();
  }
  void take_turn() {
    const uint32_t part = random_.below(kParts);
    if (tags_.count() != 0) tags_.push(part % tags_.count());
    for (uint32_t i = 0; i < kTurn; ++i) {
      Block& block = blocks_[part * kBlocks + random_.below(kBlocks)];
      release(block);
      block = allocate(random_.skewed(16, 6));
    }
    if (tags_.count() != 0) tags_.pop();
  }

  Tags tags_;
  bool parts_;
  std::vector<Block> blocks_;
  Random random_{1};
  double seconds_ = 0;
};

void time(long operations) {
  constexpr int kTurns = 40;  // they take turns, so that noise hits all
  const double ns = 1e9 / static_cast<double>(operations);
  for (const bool parts : {false, true}) {
    const char* what = parts ? "replacement by parts" : "replacement of any";
    Replacing none("none", 0, parts), one("one", 1, parts), many("many", 32, parts);
    for (int turn = 0; turn < kTurns; ++turn) {
      for (Replacing* each : {&none, &one, &many}) each->run(operations / kTurns);
    }
    report(what, "in no scope", "ns", none.seconds() * ns);
    report(what, "in scopes of 1 tag", "ns", one.seconds() * ns);
    report(what, "in scopes of 32 tags", "ns", many.seconds() * ns);
    report(what, "32 tags to 1", "ratio", many.seconds() / one.seconds());
  }
}

// ---- Idle

// The thread goes on with other things for a while.
void do_others() {
  std::vector<Block> others(1000);
  for (int i = 0; i < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    for (int j = 0; j < 100; ++j) {
      for (Block& other : others) other = allocate(500);
      for (Block& other : others) release(other);
    }
  }
}

void use_once(const Tags& tags) {
  for (size_t i = 0; i < tags.count(); ++i) {
    tags.push(i);
    Block block = allocate(100);
    tags.pop();
    release(block);
  }
}

void idle(int count) {
  // These bring what there is once a process.
  use_once(Tags("first", 1));
  do_others();
  const double before = resident();
  const Tags tags("idle", count);
  use_once(tags);
  report("idle tag", "RSS at once", "KiB", (resident() - before) / count / 1024);
  do_others();
  const double later = resident();
  report("idle tag", "RSS seconds later", "KiB", (later - before) / count / 1024);
  const Tags more("more", count);
  use_once(more);
  do_others();
  report("idle tag", "RSS that as many more add", "KiB", (resident() - later) / count / 1024);
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
