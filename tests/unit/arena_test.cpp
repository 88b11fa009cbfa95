// Arenas beside the heap that they take their segments from: everything at random against a model,
// memory that fails at every step, and what becomes of memory that was taken back.
#include "arena/arena.h"

#include <errno.h>

#include <algorithm>
#include <string>

#include "base/math.h"
#include "fake_os.h"
#include "unit.h"

#if defined(__SANITIZE_ADDRESS__)
#define TALLY_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TALLY_HAS_ASAN 1
#endif
#endif
#ifndef TALLY_HAS_ASAN
#define TALLY_HAS_ASAN 0
#endif

namespace tally::unit {
namespace {

using namespace core;

tally_arena_stats_t stats(const tally_arena* arena) {
  tally_arena_stats_t stats = {};
  stats.size = sizeof stats;
  EXPECT_EQ(tally_arena_stats(arena, &stats), 0);
  return stats;
}

// An arena, and what it should hold.
class Model {
 public:
  Model(tally_tag tag, uint64_t seed, const tally_arena_options* options = nullptr)
      : tag_(tag), random_(seed), arena_(tally_arena_create(tag, options)) {
    EXPECT_NE(arena_, nullptr);
  }
  ~Model() { tally_arena_destroy(arena_); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  tally_arena* arena() const { return arena_; }

  // False: the arena refused, and is as before.
  bool step() {
    switch (random_.below(64)) {
      case 0:
        return random_.below(8) != 0 || reset();
      case 1:
      case 2:
      case 3:
        return mark();
      case 4:
        return rewind();
      case 5:
        return rewind_to_what_is_gone();
      default:
        return allocate();
    }
  }

  void expect_sound(bool all_blocks) const {
    tally_arena_stats_t now = stats(arena_);
    EXPECT_GE(now.used_bytes, asked_);
    EXPECT_GE(now.reserved_bytes, now.used_bytes + now.waste_bytes);
    EXPECT_GE(now.peak_used_bytes, now.used_bytes);
    EXPECT_EQ(own(tag_).live_bytes, now.reserved_bytes);
    EXPECT_EQ(own(tag_).live_blocks, now.segment_count + 1);
    size_t checked = all_blocks ? blocks_.size() : min_of(blocks_.size(), 3);
    for (size_t i = blocks_.size() - checked; i < blocks_.size(); ++i) {
      ASSERT_TRUE(is_filled(blocks_[i].p, blocks_[i].n, blocks_[i].seed)) << i;
    }
  }

 private:
  struct Block {
    void* p;
    size_t n;
    unsigned seed;
  };
  struct Place {
    tally_mark mark;
    size_t blocks;
  };

  size_t some_size() {
    uint64_t kind = random_.below(100);
    return random_.below(kind < 90 ? 200 : kind < 98 ? 8 * KiB : kind < 99 ? 128 * KiB : MiB + 1);
  }

  bool refused(int error) const {
    EXPECT_EQ(errno, error);
    return false;
  }

  bool allocate() {
    size_t n = some_size(), alignment = size_t{1} << random_.below(random_.below(8) == 0 ? 13 : 5);
    tally_arena_stats_t before = stats(arena_);
    errno = 7777;
    void* p = tally_arena_alloc(arena_, n, alignment);
    if (p == nullptr) {
      tally_arena_stats_t after = stats(arena_);
      EXPECT_EQ(memcmp(&before, &after, sizeof before), 0);
      return refused(ENOMEM);
    }
    EXPECT_EQ(errno, 7777);
    EXPECT_EQ(address(p) % alignment, 0U);
    auto seed = static_cast<unsigned>(random_.next());
    fill(p, n, seed);
    blocks_.push_back({p, n, seed});
    asked_ += n;
    return true;
  }

  bool mark() {
    tally_mark mark = tally_arena_mark(arena_);
    if (mark == TALLY_MARK_NONE) return refused(ENOMEM);
    bool is_same = !places_.empty() && places_.back().blocks == blocks_.size();
    EXPECT_EQ(is_same, !places_.empty() && places_.back().mark == mark);
    if (!is_same) places_.push_back({mark, blocks_.size()});
    return true;
  }

  bool rewind() {
    if (places_.empty()) return true;
    size_t to = places_.size() - 1 - random_.below(min_of(places_.size(), 4));
    EXPECT_EQ(tally_arena_rewind(arena_, places_[to].mark), 0);
    drop(to + 1, places_[to].blocks);
    expect_sound(true);
    return true;
  }

  bool rewind_to_what_is_gone() {
    if (gone_.empty()) return true;
    tally_arena_stats_t before = stats(arena_);
    errno = 0;
    EXPECT_EQ(tally_arena_rewind(arena_, gone_[random_.below(gone_.size())]), -1);
    EXPECT_EQ(errno, EINVAL);
    tally_arena_stats_t after = stats(arena_);
    EXPECT_EQ(memcmp(&before, &after, sizeof before), 0);
    return true;
  }

  bool reset() {
    expect_sound(true);
    tally_arena_reset(arena_);
    drop(0, 0);
    EXPECT_EQ(stats(arena_).used_bytes, 0U);
    return true;
  }

  void drop(size_t places, size_t blocks) {
    for (size_t i = places; i < places_.size(); ++i) gone_.push_back(places_[i].mark);
    places_.resize(places);
    for (size_t i = blocks; i < blocks_.size(); ++i) asked_ -= blocks_[i].n;
    blocks_.resize(blocks);
  }

  const tally_tag tag_;
  Random random_;
  tally_arena* const arena_;
  std::vector<Block> blocks_;
  std::vector<Place> places_;  // marks that hold, and the blocks before each
  std::vector<tally_mark> gone_;
  size_t asked_ = 0;
};

TEST(Arena, DoesAtRandomWhatAModelDoes) {
  tally_tag tag = make_tag("/arena");
  const tally_arena_options few = {sizeof few, 128, 1024, 4096};
  const tally_arena_options nothing_kept = {sizeof nothing_kept, 0, 0, 1};
  const tally_arena_options all_kept = {sizeof all_kept, 0, 0, SIZE_MAX};
  const tally_arena_options* options[] = {nullptr, &few, &nothing_kept, &all_kept};
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    Model model(tag, seed, options[seed % 4]);
    for (int i = 0; i < 4000; ++i) {
      ASSERT_TRUE(model.step());
      if (i % 64 == 0) model.expect_sound(false);
    }
    model.expect_sound(true);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

// One failure, at each step that asks for memory in turn.
TEST(Arena, IsAsBeforeWhenTheNthSegmentFails) {
  for (uint64_t nth = 2; nth < 40; ++nth) {  // the first is the arena itself
    tally_tag tag = make_tag(("/arena/nth" + std::to_string(nth)).c_str());
    Fault fault{.nth = nth};
    find_tag(tag)->fault_plan.store(&fault);
    {
      Model model(tag, nth);
      int steps = 0;
      while (model.step()) ASSERT_LT(++steps, 20000);
      EXPECT_EQ(fault.count, nth);
      model.expect_sound(true);
      for (int i = 0; i < 200; ++i) ASSERT_TRUE(model.step());
      model.expect_sound(true);
    }
    find_tag(tag)->fault_plan.store(nullptr);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Arena, IsAsBeforeWhenTheSystemHasNoMemory) {
  tally_tag tag = make_tag("/arena/system");
  Model model(tag, 3);
  std::vector<void*> at_hand;  // what the heap could give without the system
  int failed = 0;
  {
    fake_os::Failing failing(fake_os::kMap | fake_os::kMapAt);
    for (size_t n = 1 * MiB; n >= 4 * KiB; n /= 2) {
      while (void* p = tally_malloc(TALLY_TAG_ROOT, n)) at_hand.push_back(p);
    }
    for (int i = 0; i < 500; ++i) {
      if (!model.step()) ++failed;
      model.expect_sound(true);
    }
  }
  EXPECT_GT(failed, 0);
  for (void* p : at_hand) tally_free(p);
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(model.step());
  model.expect_sound(true);
}

TEST(Arena, CannotBeMadeWithoutMemory) {
  tally_tag tag = make_tag("/arena/none");
  Fault fault{.nth = 1};
  find_tag(tag)->fault_plan.store(&fault);
  errno = 0;
  EXPECT_EQ(tally_arena_create(tag, nullptr), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(own(tag).live_blocks, 0U);
  tally_arena* arena = tally_arena_create(tag, nullptr);
  EXPECT_NE(arena, nullptr);
  tally_arena_destroy(arena);
  find_tag(tag)->fault_plan.store(nullptr);
}

// Its memory holds the tag's id, as blocks do.
TEST(Arena, NoOtherTagIsGivenTheIdOfItsRetiredTag) {
  tally_tag tag = make_tag("/arena/retired");
  tally_arena* arena = tally_arena_create(tag, nullptr);
  ASSERT_EQ(tally_tag_retire(tag), 0);
  for (int i = 0; i < 100; ++i) {
    on_thread([&] { EXPECT_NE(make_tag(("/arena/next" + std::to_string(i)).c_str()), tag); });
  }
  EXPECT_EQ(stats(arena).tag, tag);
  EXPECT_EQ(own(tag).live_blocks, 1U);
  tally_arena_destroy(arena);
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

TEST(Arena, ThoseOfManyThreadsShareATag) {
  constexpr int kThreads = 4;
  tally_tag tag = make_tag("/arena/threads");
  std::vector<tally_arena*> arenas(kThreads);
  std::vector<tally_mark> marks(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      tally_arena* arena = arenas[t] = tally_arena_create(tag, nullptr);
      Random random(t);
      for (int i = 0; i < 3000; ++i) {
        if (random.below(500) == 0) tally_arena_reset(arena);
        size_t n = random.below(3000);
        void* p = tally_arena_alloc(arena, n, 16);
        ASSERT_NE(p, nullptr);
        fill(p, n, t);
      }
      marks[t] = tally_arena_mark(arena);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(marks.begin(), marks.end());
  EXPECT_EQ(std::adjacent_find(marks.begin(), marks.end()), marks.end());
  uint64_t reserved = 0;
  for (tally_arena* arena : arenas) reserved += stats(arena).reserved_bytes;
  EXPECT_EQ(own(tag).live_bytes, reserved);
  for (tally_arena* arena : arenas) tally_arena_destroy(arena);
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

// ---- What was taken back

#if TALLY_HAS_ASAN

char* block_in(tally_arena* arena, size_t n) {
  return static_cast<char*>(tally_arena_alloc(arena, n, 8));
}

TEST(ArenaDeath, AUseAfterAResetOrARewindIsReported) {
  tally_arena* arena = tally_arena_create(make_tag("/arena/poison"), nullptr);
  volatile char* block = block_in(arena, 100);
  block[99] = 1;
  tally_mark mark = tally_arena_mark(arena);
  volatile char* scratch = block_in(arena, 100);
  scratch[0] = scratch[99] = 1;
  EXPECT_EQ(tally_arena_rewind(arena, mark), 0);
  EXPECT_DEATH(scratch[0] = 2, "use-after-poison");
  EXPECT_DEATH(scratch[99] = 2, "use-after-poison");
  EXPECT_EQ(block[99], 1);
  EXPECT_EQ(block_in(arena, 100), scratch);
  scratch[99] = 3;
  tally_arena_reset(arena);
  EXPECT_DEATH(block[99] = 2, "use-after-poison");
  EXPECT_EQ(block_in(arena, 100), block);
  EXPECT_EQ(block[99] = 4, 4);
  tally_arena_destroy(arena);
}

TEST(ArenaDeath, AUseBeyondABlockIsReported) {
  tally_arena* arena = tally_arena_create(make_tag("/arena/beyond"), nullptr);
  volatile char* block = block_in(arena, 99);
  volatile char* large = block_in(arena, 100 * KiB - 3);
  block[98] = large[100 * KiB - 4] = 1;
  EXPECT_DEATH(block[99] = 1, "use-after-poison");
  EXPECT_DEATH(large[100 * KiB - 3] = 1, "use-after-poison");
  tally_arena_destroy(arena);
}

// The heap's other blocks are not poisoned by what an arena gave back.
TEST(ArenaPoison, EndsWithTheArena) {
  tally_tag tag = make_tag("/arena/given");
  for (size_t n : {100U, 5000U, 60000U, 200000U}) {
    tally_arena* arena = tally_arena_create(tag, nullptr);
    for (int i = 0; i < 10; ++i) EXPECT_NE(block_in(arena, n), nullptr);
    tally_arena_reset(arena);
    tally_arena_destroy(arena);
    for (int i = 0; i < 10; ++i) {
      void* p = tally_malloc(tag, n);
      fill(p, n, 1);
      tally_free(p);
    }
  }
}

#else

TEST(ArenaPattern, IsWhatIsLeftAfterAResetInBuildsWithChecks) {
  tally_arena* arena = tally_arena_create(make_tag("/arena/pattern"), nullptr);
  auto* block = static_cast<unsigned char*>(tally_arena_alloc(arena, 100, 8));
  memset(block, 1, 100);
  tally_mark mark = tally_arena_mark(arena);
  auto* scratch = static_cast<unsigned char*>(tally_arena_alloc(arena, 100, 8));
  memset(scratch, 2, 100);
  constexpr int kLeft = kChecks ? 0xdd : 2;
  EXPECT_EQ(tally_arena_rewind(arena, mark), 0);
  EXPECT_EQ(scratch[0], kLeft);
  EXPECT_TRUE(is_uniform(scratch, 100));
  EXPECT_EQ(block[99], 1);
  tally_arena_reset(arena);
  EXPECT_EQ(block[0], kChecks ? 0xdd : 1);
  EXPECT_TRUE(is_uniform(block, 100));
  tally_arena_destroy(arena);
}

#endif

}  // namespace
}  // namespace tally::unit
