// More threads than cores do everything at once through the API: cross-thread frees, realloc within
// and across tags, aligned and large blocks, scopes, threads that come and go, tags that come and
// go, forks, trims, snapshots. The program keeps its own books; at the end Tally's must agree to
// the byte, and be zero when all is freed.
//
// malloc stays the C library's, so that the sanitizers can be used. The work is bounded by
// --operations.
//   stress [--operations N] [--threads N] [--forks N] [--seed N]
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

#include "blocks.hpp"
#include "classes.h"
#include "lanes.hpp"

namespace {

[[noreturn]] void fail(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  std::abort();
}
#define CHECK(condition) ((condition) ? void() : fail(__FILE__, __LINE__, #condition))

constexpr size_t kMiB = 1 << 20;
constexpr size_t kSlots = 3000;
// Blocks of the first tags are never reallocated: of these every figure is known, of the others the
// live ones. (In how many steps a realloc counts is Tally's affair.)
// The last tag is that of who names none: by the rule in force (TALLY_TAG_BY) the program's, its
// threads', or the root.
constexpr uint32_t kTags = 24, kPlainTags = 8, kUnnamed = kTags - 1;

struct Options {
  uint64_t operations = 4'000'000, threads = 8, forks = 20, seed = 1;
};

// What one thread did to one tag. Unsigned and summed over threads: a thread may free more than it
// allocated.
struct Book {
  uint64_t allocs = 0, frees = 0, requested = 0, live_bytes = 0, reallocs = 0;
  void operator+=(const Book& b) {
    allocs += b.allocs;
    frees += b.frees;
    requested += b.requested;
    live_bytes += b.live_bytes;
    reallocs += b.reallocs;
  }
};
using Books = std::vector<Book>;

tally_tag tags[kTags];
Slot slots[kSlots];
std::mutex sum_mutex;
Books sum(kTags);
std::atomic<bool> stop{false};

size_t some_size(Random& random) {
  const uint64_t kind = random.below(10000);
  if (kind < 8500) return 1 + random.below(400);
  if (kind < 9700) return 1 + random.below(8000);
  if (kind < 9950) return 1 + random.below(60000);
  if (kind < 9995) return 1 + random.below(600000);
  return 1 + random.below(9 * kMiB);
}

class Worker {
 public:
  explicit Worker(uint64_t seed) : random_(seed), books_(kTags) {}

  void run(uint64_t operations) {
    for (uint64_t i = 0; i < operations; i++) step();
    while (depth_ > 0) pop();
    const std::lock_guard<std::mutex> lock(sum_mutex);
    for (uint32_t t = 0; t < kTags; t++) sum[t] += books_[t];
  }

 private:
  void step() {
    const uint64_t kind = random_.below(10000);
    if (kind < 5000) {
      release(slot().swap(allocate()));
    } else if (kind < 7500) {
      release(slot().swap({}));
    } else if (kind < 8700) {
      release(slot().swap(resize(slot().swap({}))));
    } else if (kind < 9990) {
      scope();
    } else if (kind < 9997) {
      observe();
    } else if (kind < 9999) {
      brief_tag();
    } else {
      tally_trim();
    }
  }

  Slot& slot() { return slots[random_.below(kSlots)]; }

  Block allocate() {
    Block b;
    b.size = some_size(random_);
    b.mark = static_cast<uint32_t>(random_.next());
    const uint64_t how = random_.below(10);
    b.tag =
        how < 4 && depth_ > 0 ? scopes_[depth_ - 1] : static_cast<uint32_t>(random_.below(kTags));
    if (how < 4 && depth_ > 0) {
      // As malloc does where it is Tally's.
      b.p = tally_realloc(TALLY_TAG_NONE, nullptr, b.size);
    } else if (how < 4) {
      b.tag = kUnnamed;
      b.p = tally_realloc(TALLY_TAG_NONE, nullptr, b.size);
    } else if (how < 7) {
      b.p = tally_malloc(tags[b.tag], b.size);
    } else if (how < 9) {
      b.p = tally_calloc(tags[b.tag], 1, b.size);
      CHECK(b.p != nullptr);
      visit_places(b.size, b.size, [&](size_t i) { CHECK(static_cast<char*>(b.p)[i] == 0); });
    } else {
      const size_t alignment = size_t{1} << random_.below(tally_is_hardened() ? 13 : 14);
      b.p = tally_aligned_alloc(tags[b.tag], alignment, b.size);
      CHECK(reinterpret_cast<uintptr_t>(b.p) % alignment == 0);
    }
    CHECK(b.p != nullptr);
    CHECK(tally_tag_of(b.p) == tags[b.tag]);
    fill(b.p, b.size, b.mark);
    Book& book = books_[b.tag];
    book.allocs++;
    book.requested += b.size;
    book.live_bytes += counted_bytes(b.p);
    return b;
  }

  void release(const Block& b) {
    if (b.p == nullptr) return;
    CHECK(is_filled(b.p, b.size, b.mark));
    Book& book = books_[b.tag];
    book.frees++;
    book.live_bytes -= counted_bytes(b.p);
    tally_free(b.p);
  }

  Block resize(Block b) {
    if (b.p == nullptr || b.tag < kPlainTags) return b;
    CHECK(is_filled(b.p, b.size, b.mark));
    Book& old_book = books_[b.tag];
    old_book.live_bytes -= counted_bytes(b.p);
    const size_t size = some_size(random_);
    uint32_t to = b.tag;
    if (random_.below(4) == 0) {
      to = kPlainTags + static_cast<uint32_t>(random_.below(kTags - kPlainTags));
      b.p = tally_realloc(tags[to], b.p, size);
    } else {
      b.p = tally_realloc(TALLY_TAG_NONE, b.p, size);
    }
    CHECK(b.p != nullptr);
    CHECK(tally_tag_of(b.p) == tags[to]);
    CHECK(is_filled(b.p, b.size, b.mark, size));
    Book& book = books_[to];
    book.live_bytes += counted_bytes(b.p);
    book.reallocs++;
    if (to != b.tag) {
      old_book.frees++;
      book.allocs++;
    }
    b.tag = to;
    b.size = size;
    fill(b.p, b.size, b.mark);
    return b;
  }

  void scope() {
    if (depth_ < kDepth && random_.below(2)) {
      scopes_[depth_] = static_cast<uint32_t>(random_.below(kTags));
      CHECK(tally_tag_push(tags[scopes_[depth_]]) == 0);
      depth_++;
    } else if (depth_ > 0) {
      pop();
    }
  }

  void pop() {
    CHECK(tally_tag_current() == tags[scopes_[depth_ - 1]]);
    CHECK(tally_tag_pop() == 0);
    depth_--;
  }

  void observe() {
    tally_stats_t s = {};
    s.size = sizeof s;
    CHECK(tally_stats(tags[random_.below(kTags)], &s) == 0);
    CHECK(s.own.live_bytes <= s.own.footprint_bytes);
    CHECK(s.own.footprint_bytes <= s.own.peak_footprint_bytes);
    CHECK(s.own.alloc_count - s.own.free_count == s.own.live_blocks);
  }

  // A tag of this thread alone, made, used and retired, as a server does for a request.
  void brief_tag() {
    const std::string path = "/brief/" + std::to_string(random_.next());
    const tally_tag tag = tally_tag_create(path.c_str());
    CHECK(tag != TALLY_TAG_NONE);
    void* p = tally_malloc(tag, 100);
    void* q = tally_malloc(tag, 5000);
    CHECK(p != nullptr && q != nullptr && tally_tag_of(q) == tag);
    tally_free(p);
    CHECK(tally_tag_retire(tag) == 0);
    CHECK(tally_malloc(tag, 10) == nullptr);
    tally_free(q);
  }

  static constexpr int kDepth = 20;
  Random random_;
  Books books_;
  uint32_t scopes_[kDepth] = {};
  int depth_ = 0;
};

// Reads everything all the time; whatever the others do, it must make sense.
void watch() {
  while (!stop) {
    tally_snapshot_t* snapshot = tally_snapshot();
    CHECK(snapshot != nullptr);
    for (uint64_t i = 0; i < snapshot->tag_count; i++) {
      const tally_counts& own = snapshot->tags[i].own;
      CHECK(own.live_bytes <= own.footprint_bytes);
      CHECK(own.footprint_bytes <= own.peak_footprint_bytes);
      CHECK(own.live_bytes < uint64_t{1} << 50);
      CHECK(own.alloc_count - own.free_count == own.live_blocks);
    }
    for (uint64_t i = 0; i < snapshot->class_count; i++) {
      CHECK(snapshot->classes[i].live_blocks <= snapshot->classes[i].capacity_blocks);
    }
    tally_snapshot_free(snapshot);
    usleep(2000);
  }
}

// A child of a process whose threads are in the midst of everything. It must not use the C
// library's heap under a sanitizer, so it works through Tally alone.
[[noreturn]] void child(uint64_t seed) {
  alarm(60);
  Random random(seed);
  void* blocks[500] = {};
  const tally_tag tag = tally_tag_create("/child");
  CHECK(tag != TALLY_TAG_NONE);
  for (int i = 0; i < 5000; i++) {
    void*& p = blocks[random.below(500)];
    tally_free(p);
    p = tally_malloc(tag, some_size(random));
    CHECK(p != nullptr);
  }
  for (void* p : blocks) tally_free(p);
  tally_stats_t s = {};
  s.size = sizeof s;
  CHECK(tally_stats(tag, &s) == 0);
  CHECK(s.own.live_blocks == 0 && s.own.live_bytes == 0 && s.own.alloc_count == 5000);
  for (tally_tag each : tags) {
    CHECK(tally_stats(each, &s) == 0);
    CHECK(s.own.live_bytes <= s.own.footprint_bytes);
  }
  tally_trim();
  _exit(0);
}

void fork_now_and_then(const Options& options) {
  for (uint64_t i = 0; i < options.forks && !stop; i++) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child(options.seed + i);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    usleep(50000);
  }
}

// One place that keeps as many workers running as asked; each lives for some thousand operations.
void work(const Options& options) {
  constexpr uint64_t kLife = 20000;
  std::atomic<uint64_t> left{(options.operations + kLife - 1) / kLife};
  std::vector<std::thread> lanes;
  for (uint64_t lane = 0; lane < options.threads; lane++) {
    lanes.emplace_back([&, lane] {
      for (uint64_t life = 0;; life++) {
        uint64_t now = left.load();
        while (now > 0 && !left.compare_exchange_weak(now, now - 1)) {
        }
        if (now == 0) return;
        // In turn on a thread of its own and on this one, so that some threads live long.
        const auto body = [&] { Worker(options.seed * 1000003 + lane * 1009 + life).run(kLife); };
        if (life % 2) {
          body();
        } else {
          std::thread(body).join();
        }
      }
    });
  }
  for (auto& lane : lanes) lane.join();
}

tally_stats_t stats_of(tally_tag tag) {
  tally_stats_t s = {};
  s.size = sizeof s;
  CHECK(tally_stats(tag, &s) == 0);
  return s;
}

bool agrees(const char* what, const tally_stats_t& s, uint64_t tally, uint64_t book) {
  if (tally == book) return true;
  std::fprintf(stderr, "%s: %s is %llu, by our books %llu\n", s.name, what,
               static_cast<unsigned long long>(tally), static_cast<unsigned long long>(book));
  return false;
}

bool books_agree() {
  bool good = true;
  for (uint32_t t = 0; t < kTags; t++) {
    const Book& book = sum[t];
    const tally_stats_t s = stats_of(tags[t]);
    good &= agrees("live_bytes", s, s.own.live_bytes, book.live_bytes);
    good &= agrees("live_blocks", s, s.own.live_blocks, book.allocs - book.frees);
    good &= agrees("alloc_count - free_count", s, s.own.alloc_count - s.own.free_count,
                   book.allocs - book.frees);
    if (t < kPlainTags) {
      good &= agrees("alloc_count", s, s.own.alloc_count, book.allocs);
      good &= agrees("free_count", s, s.own.free_count, book.frees);
      good &= agrees("requested_bytes", s, s.own.requested_bytes, book.requested);
    } else {
      CHECK(s.own.alloc_count >= book.allocs && s.own.alloc_count <= book.allocs + book.reallocs);
    }
    CHECK(s.own.live_bytes <= s.own.footprint_bytes);
  }
  return good;
}

// Threads have the name of the one that makes them.
tally_tag tag_of_unnamed() {
  void* p = tally_realloc(TALLY_TAG_NONE, nullptr, 1);
  const tally_tag tag = tally_tag_of(p);
  CHECK(tag != TALLY_TAG_NONE);
  sum[kUnnamed].allocs = sum[kUnnamed].frees = 1;
  tally_free(p);
  return tag;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--operations") {
      options.operations = value;
    } else if (name == "--threads") {
      options.threads = value;
    } else if (name == "--forks") {
      options.forks = value;
    } else if (name == "--seed") {
      options.seed = value;
    } else {
      std::fprintf(stderr, "%s: unknown\n", name.c_str());
      std::exit(2);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  expect_backend();
  std::printf("seed %llu, %llu operations, %llu threads\n",
              static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(options.operations),
              static_cast<unsigned long long>(options.threads));
  std::fflush(stdout);
  for (uint32_t t = 0; t < kUnnamed; t++) {
    const std::string path = "/stress/" + std::string(t % 3 ? "deep/" : "") + std::to_string(t);
    tags[t] = tally_tag_create(path.c_str());
    CHECK(tags[t] != TALLY_TAG_NONE);
  }
  tags[kUnnamed] = tag_of_unnamed();

  std::thread watcher(watch), forker(fork_now_and_then, std::cref(options));
  work(options);
  stop = true;
  watcher.join();
  forker.join();

  const bool agreed = books_agree();
  for (Slot& slot : slots) {
    const Block b = slot.swap({});
    if (b.p == nullptr) continue;
    CHECK(is_filled(b.p, b.size, b.mark));
    sum[b.tag].frees++;
    sum[b.tag].live_bytes -= counted_bytes(b.p);
    tally_free(b.p);
  }
  const bool agreed_empty = books_agree();
  for (uint32_t t = 0; t < kTags; t++) {
    CHECK(sum[t].live_bytes == 0 && sum[t].allocs == sum[t].frees);
  }
  tally_trim();
  for (tally_tag tag : tags) CHECK(stats_of(tag).own.footprint_bytes <= kMiB);
  return agreed && agreed_empty ? 0 : 1;
}
