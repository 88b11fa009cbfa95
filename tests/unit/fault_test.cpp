// The system refuses: the n-th call for memory fails, for every n that a workload reaches. Whatever
// fails, what is live keeps its content, the counts stay exact, and when there is memory again all
// is as if nothing had been.
#include <errno.h>

#include <string>

#include "base/math.h"
#include "fake_os.h"
#include "heap/purge.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

struct Held {
  void* p;
  size_t n;
  unsigned seed;
  tally_tag tag;
};

class Workload {
 public:
  explicit Workload(const std::string& name) : name_(name) {}

  // About all that asks the system for memory. Nothing here assumes that anything succeeds.
  void run() {
    allocate(0, 100);
    for (int i = 0; i < 3; ++i) {
      tally_tag tag = tally_tag_create((name_ + "/tag" + std::to_string(i) + "/below").c_str());
      if (tag == TALLY_TAG_NONE) {
        EXPECT_EQ(errno, ENOMEM);
        continue;
      }
      tags_.push_back(tag);
      for (size_t n : {size_t{24}, size_t{5000}, size_t{40000}, size_t{300000}, kRunMax}) {
        for (int j = 0; j < 3; ++j) allocate(tag, n);
      }
      allocate(tag, (2 + static_cast<size_t>(i)) * MiB);
      aligned(tag, 256, 300);
      aligned(tag, kRunMax, 100000);
      aligned(tag, 4 * MiB, 100000);
      zeroed(tag, 200000);
    }
    std::thread other([this] {
      for (tally_tag tag : tags_) {
        for (int j = 0; j < 9; ++j) allocate(tag, 3000);
        scoped(tag);
      }
      free_some(7);
    });
    other.join();
    for (size_t i = 0; i < held_.size(); i += 2)
      resize(held_[i], held_[i].n * (i % 3 == 0 ? 3 : 1) / 2 + 1);
    free_some(3);
    for (size_t i = 0; i < held_.size(); i += 9) resize(held_[i], 2 * MiB + i);
    if (!tags_.empty()) tally_tag_retire(tags_[0]);
    core::purge_all();
    check_contents();
  }

  void check_contents() {
    for (const Held& one : held_) ASSERT_TRUE(is_filled(one.p, one.n, one.seed));
  }
  // The test's own count, by tag, against Tally's.
  void check_counts() {
    for (tally_tag tag : tags_) {
      uint64_t blocks = 0, bytes = 0;
      for (const Held& one : held_) {
        ASSERT_EQ(tally_tag_of(one.p), one.tag);
        if (one.tag != tag) continue;
        ++blocks;
        bytes += tally_usable_size(one.p);
      }
      tally_stats_t now = {};
      now.size = sizeof now;
      // Retired and gone with its last block, and its id another's: nothing to compare with.
      if (blocks == 0 && (tally_stats(tag, &now) != 0 || now.retired != 0)) continue;
      ASSERT_EQ(tally_stats(tag, &now), 0);
      EXPECT_EQ(now.own.live_blocks, blocks);
      EXPECT_EQ(now.own.live_bytes, bytes);
      EXPECT_GE(now.own.footprint_bytes, bytes);
    }
  }
  void free_all() {
    for (const Held& one : held_) tally_free(one.p);
    held_.clear();
  }
  void retire_all() {
    for (tally_tag tag : tags_) tally_tag_retire(tag);
  }

 private:
  void keep(tally_tag tag, void* p, size_t n, bool is_zeroed = false) {
    if (p == nullptr) {
      ASSERT_EQ(errno, ENOMEM);
      return;
    }
    if (is_zeroed) {
      ASSERT_TRUE(is_zero(p, n));
    }
    auto seed = static_cast<unsigned>(held_.size() + n);
    fill(p, n, seed);
    held_.push_back({p, n, seed, tag});
  }
  void allocate(tally_tag tag, size_t n) {
    errno = 0;
    keep(tag, tally_malloc(tag, n), n);
  }
  void aligned(tally_tag tag, size_t alignment, size_t n) {
    errno = 0;
    void* p = tally_aligned_alloc(tag, alignment, n);
    ASSERT_EQ(address(p) & (alignment - 1), 0U);
    keep(tag, p, n);
  }
  void zeroed(tally_tag tag, size_t n) {
    errno = 0;
    keep(tag, tally_calloc(tag, 1, n), n, true);
  }
  void scoped(tally_tag tag) {
    errno = 0;
    if (tally_tag_push(tag) != 0) {
      ASSERT_EQ(errno, ENOMEM);
      return;
    }
    errno = 0;
    keep(tag, tally_realloc(TALLY_TAG_NONE, nullptr, 777), 777);
    ASSERT_EQ(tally_tag_pop(), 0);
  }
  void resize(Held& held, size_t n) {
    errno = 0;
    void* p = tally_realloc(TALLY_TAG_NONE, held.p, n);
    if (p == nullptr) {
      ASSERT_EQ(errno, ENOMEM);
      ASSERT_TRUE(is_filled(held.p, held.n, held.seed)) << "realloc failed, and p is not as before";
      return;
    }
    ASSERT_TRUE(is_filled(p, min_of(n, held.n), held.seed));
    fill(p, n, held.seed);
    held.p = p;
    held.n = n;
  }
  void free_some(size_t every) {
    for (size_t i = 0; i < held_.size(); i += every) {
      tally_free(held_[i].p);
      held_[i] = held_.back();
      held_.pop_back();
    }
  }

  std::string name_;
  std::vector<tally_tag> tags_;
  std::vector<Held> held_;
};

void expect_nothing_left() {
  core::purge_all();
  tally_stats_t root = stats(TALLY_TAG_ROOT);
  uint64_t metadata = meta::footprint.now.load();
  EXPECT_EQ(root.total.footprint_bytes, metadata);
  EXPECT_EQ(root.own.live_blocks, 0U);
  for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
    EXPECT_EQ(chunk->free_slots, chunk->hollow ? uint64_t{1} : ~uint64_t{0});
    EXPECT_EQ(chunk->dirty_slots, 0U);
  }
}

uint64_t g_run = 0;

// One run in which the calls from `skip` on, `count` of them, fail. Returns how many calls there
// were.
uint64_t run_with_fault(unsigned which, uint64_t skip, uint64_t count) {
  Workload work("/fault/" + std::to_string(g_run++));
  fake_os::fail(which, skip, count);
  work.run();
  uint64_t calls = fake_os::calls();
  fake_os::fail_none();
  work.check_contents();
  work.check_counts();
  // Once more with memory, on top of what the faults left.
  Workload again("/fault/" + std::to_string(g_run++));
  again.run();
  again.check_counts();
  work.check_contents();
  again.free_all();
  work.free_all();
  work.check_counts();
  work.retire_all();
  again.retire_all();
  expect_nothing_left();
  return calls;
}

constexpr uint64_t kMost = 1000;
// ThreadSanitizer makes it slow, and takes samples.
constexpr uint64_t kStep = kThreadSanitizer ? 7 : 1;

class FaultTest : public testing::TestWithParam<unsigned> {};

TEST_P(FaultTest, TheNthCallFails) {
  uint64_t n = 0;
  while (n < kMost && run_with_fault(GetParam(), n, 1) > n && !HasFailure()) n += kStep;
  EXPECT_GT(n, 0U) << "the workload makes no such call";
  RecordProperty("calls", static_cast<int>(n));
}

TEST_P(FaultTest, AllFailFromTheNthOn) {
  uint64_t n = 0;
  while (n < kMost && run_with_fault(GetParam(), n, UINT64_MAX) > n && !HasFailure()) n += kStep;
  EXPECT_GT(n, 0U);
}

INSTANTIATE_TEST_SUITE_P(Calls, FaultTest,
                         testing::Values(fake_os::kMap, fake_os::kUnmap, fake_os::kPurge,
                                         fake_os::kRemap, fake_os::kAll),
                         [](const auto& call) -> std::string {
                           switch (call.param) {
                             case fake_os::kMap:
                               return "Map";
                             case fake_os::kUnmap:
                               return "Unmap";
                             case fake_os::kPurge:
                               return "Purge";
                             case fake_os::kRemap:
                               return "Remap";
                             default:
                               return "All";
                           }
                         });

// A process whose first maps fail: nothing is set up yet but the main thread.
TEST(Fault, AThreadsFirstCall) {
  for (uint64_t n = 0; n < 8; ++n) {
    fake_os::fail(fake_os::kMap, n);
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([] {
        errno = 0;
        void* p = tally_malloc(TALLY_TAG_ROOT, 100);
        EXPECT_TRUE(p != nullptr || errno == ENOMEM);
        tally_free(p);
        tally_tag_push(TALLY_TAG_ROOT);
      });
    }
    for (std::thread& thread : threads) thread.join();
    fake_os::fail_none();
    on_thread([] { tally_free(tally_malloc(TALLY_TAG_ROOT, 100)); });
  }
  EXPECT_EQ(own(TALLY_TAG_ROOT).live_blocks, 0U);
}

}  // namespace
}  // namespace tally::unit
