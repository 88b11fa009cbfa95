#include "heap/holes.h"

#include <algorithm>
#include <bit>
#include <set>

#include "fake_os.h"
#include "heap/slab_lists.h"
#include "heap/slab_ops.h"
#include "os/os.h"
#include "os/resident.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// One full slab of a class, of which every `step`-th block stays, filled.
class HolesTest : public testing::TestWithParam<size_t> {
 protected:
  void make(const char* path, uint32_t step) {
    size_ = class_size(class_of(GetParam()));
    // Of its own, or what another size's threads left would lend its first blocks.
    tag_ = make_tag((path + ("/" + std::to_string(size_))).c_str());
    std::vector<void*> blocks = {tally_malloc(tag_, size_)};
    slab_ = slab_of(blocks[0]);
    heap_ = heap_of(tag_);
    while (slab_->carved.load() < slab_->capacity || list() != nullptr) {
      blocks.push_back(tally_malloc(tag_, size_));
    }
    for (size_t i = 0; i < blocks.size(); ++i) fill(blocks[i], size_, static_cast<unsigned>(i));
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (step != 0 && i % step == 0) {
        kept_.push_back({blocks[i], static_cast<unsigned>(i)});
      } else {
        tally_free(blocks[i]);
      }
    }
  }
  ~HolesTest() override {
    for (auto [p, mark] : kept_) tally_free(p);
    EXPECT_EQ(own(tag_).live_blocks, 0U);
    tally_trim();
    EXPECT_EQ(own(tag_).footprint_bytes, 0U);
    EXPECT_EQ(kept_slab_bytes.load(), 0U);
  }
  Block* list() const { return heap_->classes[slab_->what().size_class].list; }
  size_t dig() const {
    LockGuard guard(tls.thread->lock);
    return dig_holes(slab_);
  }
  size_t resident_bytes() const {
    auto base = reinterpret_cast<uintptr_t>(slab_->start) & ~(kSlotBytes - 1);
    return os::resident_in(reinterpret_cast<void*>(base), slab_->slots * kSlotBytes);
  }
  // Most of the slab's pages can be given back.
  bool has_pages() const { return slab_->slots * kSlotBytes >= 8 * os::page_size(); }
  void expect_valid() const {
    uint32_t free_count = 0;
    for (const Block* b = slab_->free; b != nullptr; b = b->next()) ++free_count;
    EXPECT_EQ(free_count, slab_->free_count());
    EXPECT_EQ(slab_->level.out(), kept_.size());
    EXPECT_EQ(own(tag_).live_blocks, kept_.size());
    EXPECT_EQ(own(tag_).footprint_bytes, slab_->bytes.load());
    for (auto [p, mark] : kept_) EXPECT_TRUE(is_filled(p, size_, mark));
  }

  tally_tag tag_;
  size_t size_;
  Slab* slab_;
  Heap* heap_;
  struct Kept {
    void* p;
    unsigned mark;
  };
  std::vector<Kept> kept_;
};

TEST_P(HolesTest, FreePagesGoBackAndComeAgain) {
  // A page or more between two that stay.
  make("/unit/holes/again", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  if (!has_pages()) GTEST_SKIP() << "a slab of this size has few pages";
  size_t bytes = slab_->bytes.load();
  size_t resident = resident_bytes();
  size_t dug = dig();
  ASSERT_GT(dug, bytes / 3);
  EXPECT_EQ(slab_->bytes.load(), bytes - dug);
  EXPECT_EQ(resident_bytes(), resident - dug);
  expect_valid();
  EXPECT_EQ(dig(), 0U) << "no more to find";

  // Nearly all of it is allocated again, each block once, before there is another slab.
  std::set<void*> seen;
  for (auto [p, mark] : kept_) seen.insert(p);
  for (;;) {
    void* p = tally_malloc(tag_, size_);
    if (slab_of(p) != slab_) {
      tally_free(p);
      break;
    }
    ASSERT_TRUE(seen.insert(p).second) << "handed out twice";
    auto mark = static_cast<unsigned>(kept_.size());
    fill(p, size_, mark);
    kept_.push_back({p, mark});
  }
  EXPECT_GT(kept_.size(), slab_->wake_level());
  EXPECT_EQ(slab_->in_holes + kept_.size(), slab_->capacity);
  EXPECT_GT(slab_->bytes.load(), bytes - bytes / 8 - 2 * os::page_size());
  tally_trim();  // the other slab
  expect_valid();
}

TEST_P(HolesTest, WhatTheSystemDoesNotTakeStays) {
  make("/unit/holes/refused", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  if (!has_pages()) GTEST_SKIP() << "a slab of this size has few pages";
  size_t bytes = slab_->bytes.load();
  {
    fake_os::Failing failing(fake_os::kPurge);
    EXPECT_EQ(dig(), 0U);
  }
  EXPECT_EQ(slab_->bytes.load(), bytes);
  expect_valid();
  {
    fake_os::Failing failing(fake_os::kPurge, 1);
    EXPECT_GT(dig(), 0U);
  }
  expect_valid();
  EXPECT_GT(dig(), 0U);
  expect_valid();
}

TEST_P(HolesTest, ASlabThatEmptiesAfterwardsIsUsedAgain) {
  make("/unit/holes/empty", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  if (!has_pages()) GTEST_SKIP() << "a slab of this size has few pages";
  ASSERT_GT(dig(), 0U);
  std::reverse(kept_.begin(), kept_.end());
  for (auto [p, mark] : kept_) tally_free(p);
  kept_.clear();
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  std::set<void*> seen;
  for (uint32_t i = 0; i < slab_->capacity; ++i) {
    void* p = tally_malloc(tag_, size_);
    ASSERT_TRUE(seen.insert(p).second);
    kept_.push_back({p, i});
    fill(p, size_, i);
  }
  for (auto [p, mark] : kept_) EXPECT_TRUE(is_filled(p, size_, mark));
}

TEST_P(HolesTest, BlocksThatOthersFreeAreNoHoles) {
  make("/unit/holes/others", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  if (!has_pages()) GTEST_SKIP() << "a slab of this size has few pages";
  on_thread([&] { tally_free(kept_.back().p); });
  kept_.pop_back();
  ASSERT_GT(dig(), 0U);
  EXPECT_EQ(slab_->level.out() - slab_->remote.count(), kept_.size());
  for (auto [p, mark] : kept_) EXPECT_TRUE(is_filled(p, size_, mark));
}

TEST_P(HolesTest, ABlockInAHoleThatIsFreedAgainIsFound) {
  make("/unit/holes/twice", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  if (!has_pages()) GTEST_SKIP() << "a slab of this size has few pages";
  ASSERT_GT(dig(), 0U);
  EXPECT_EQ(find_in_hole(slab_), nullptr);
  unsigned hole = static_cast<unsigned>(std::countr_zero(slab_->holes));
  size_t granule = slab_->slots * kSlotBytes / 64;
  granule = granule < os::page_size() ? os::page_size() : granule;
  char* in_hole = reinterpret_cast<char*>(
      (reinterpret_cast<uintptr_t>(slab_->start) & ~(kSlotBytes - 1)) + hole * granule);
  Block* rest = slab_->free;
  auto* block = reinterpret_cast<Block*>(slab_->block_at(slab_->index_of(in_hole)));
  block->link(rest);
  slab_->free = block;
  EXPECT_EQ(find_in_hole(slab_), block);
  slab_->free = rest;
}

// What is used in turn with being sparse is not dug each time.
TEST_P(HolesTest, ASlabInUseIsLeftAlone) {
  tally_tag tag = make_tag("/unit/holes/ballast");
  void* ballast = tally_malloc(tag, 128 * MiB);
  make("/unit/holes/churn", static_cast<uint32_t>(2 + 3 * os::page_size() / GetParam()));
  std::vector<void*> blocks;
  fake_os::Failing counting(fake_os::kPurge, UINT64_MAX / 2);  // none fails
  for (int round = 0; round < 1000; ++round) {
    while (blocks.size() < slab_->capacity / 2) blocks.push_back(tally_malloc(tag_, size_));
    for (void* p : blocks) tally_free(p);
    blocks.clear();
  }
  EXPECT_LT(fake_os::calls(), 200U);
  tally_free(ballast);
}

// Batches of blocks that come and go, of which a few stay a little longer: each slab becomes
// sparse, but its pages are wanted again soon.
TEST(Holes, WhatIsSoonWantedAgainIsNotGivenBack) {
  tally_tag tag = make_tag("/unit/holes/batches");
  void* ballast = tally_malloc(tag, 128 * MiB);
  constexpr size_t kSize = 448, kBlocks = 64 * kSlotBytes / kSize, kStays = 20;
  std::vector<void*> blocks(kBlocks);
  fake_os::Failing counting(fake_os::kPurge, UINT64_MAX / 2);  // none fails
  constexpr uint64_t kRounds = 100;
  for (uint64_t round = 0; round < kRounds; ++round) {
    for (void*& p : blocks) p = tally_malloc(tag, kSize);
    for (size_t i = 0; i < kBlocks; ++i) {
      if (i % kStays != 0) tally_free(blocks[i]);
    }
    for (size_t i = 0; i < kBlocks; i += kStays) tally_free(blocks[i]);
  }
  // Without regard for that seven a slab and round.
  EXPECT_LT(fake_os::calls(), kRounds * 64);
  tally_free(ballast);
}

INSTANTIATE_TEST_SUITE_P(Sizes, HolesTest,
                         testing::Values(16, 48, 112, 448, 1024, 1280, 3584, 8192, 10240, 40960));

TEST(Holes, NothingIsDugInASmallProgram) {
  tally_tag tag = make_tag("/unit/holes/small");
  void* p = tally_malloc(tag, 1024);
  EXPECT_EQ(next_event(slab_of(p), slab_of(p)->capacity), 0U);
  tally_free(p);
}

}  // namespace
}  // namespace tally::unit
