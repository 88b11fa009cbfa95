#include "heap/misuse.h"

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// The checks' verdicts; the exact messages are tests/misuse's. Here the program goes on after them.
class MisuseTest : public testing::Test {
 protected:
  static constexpr uint32_t kSize = 64, kBlocks = 32;

  MisuseTest() {
    options.abort_on_corruption = false;
    tag_ = make_tag("/unit/misuse");
    slab_ = slab_of(tally_malloc(tag_, kSize));
    for (uint32_t i = 0; i < kBlocks; ++i)
      blocks_.push_back(reinterpret_cast<Block*>(slab_->block_at(i)));
    EXPECT_GE(slab_->carved.load(), kBlocks);
    for (uint32_t i = 0; i < kBlocks; ++i) saved_.push_back(blocks_[i]->next());
  }
  ~MisuseTest() override {
    for (uint32_t i = 0; i < kBlocks; ++i) blocks_[i]->link(saved_[i]);
  }
  // The first `count` blocks as a list.
  Block* chain(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) blocks_[i]->link(i + 1 < count ? blocks_[i + 1] : nullptr);
    return blocks_[0];
  }
  Block* check(Block* first, uint32_t count, uint32_t most = ~0U) {
    testing::internal::CaptureStderr();
    Block* last = check_list(first, count, slab_, most);
    said_ = testing::internal::GetCapturedStderr();
    EXPECT_EQ(last == nullptr, !said_.empty());
    return last;
  }

  KeepOptions keep_;
  tally_tag tag_;
  Slab* slab_;
  std::vector<Block*> blocks_, saved_;
  std::string said_;
};

TEST_F(MisuseTest, AGoodListHasItsLastBlock) {
  for (uint32_t count = 1; count <= kBlocks; ++count) {
    EXPECT_EQ(check(chain(count), count), blocks_[count - 1]);
    EXPECT_EQ(check(chain(count), count, 3), blocks_[count < 3 ? count - 1 : 2]);
  }
}

TEST_F(MisuseTest, TooShortOrTooLong) {
  EXPECT_EQ(check(chain(5), 4), nullptr);
  EXPECT_EQ(check(chain(5), 6), nullptr);
  EXPECT_NE(said_.find("free list damaged"), std::string::npos) << said_;
  EXPECT_EQ(check(chain(2), 3, 3), nullptr) << "the head too";
  EXPECT_EQ(check(chain(3), 2, 3), nullptr);
}

TEST_F(MisuseTest, MoreThanTheSlabEverHandedOut) {
  EXPECT_EQ(check(chain(5), slab_->carved.load() + 1), nullptr);
  EXPECT_NE(said_.find("double free of"), std::string::npos) << said_;
  EXPECT_EQ(check(chain(5), ~0U, 3), nullptr) << "as when out fell below zero";
}

TEST_F(MisuseTest, ARing) {
  chain(6);
  blocks_[5]->link(blocks_[2]);
  EXPECT_EQ(check(blocks_[0], 7), nullptr);
  EXPECT_NE(said_.find("double free of"), std::string::npos) << said_;
  blocks_[0]->link(blocks_[0]);
  EXPECT_EQ(check(blocks_[0], 2), nullptr);
  EXPECT_NE(said_.find("double free of"), std::string::npos) << said_;
  EXPECT_EQ(check(blocks_[0], 20, 3), nullptr) << "a block freed twice in a row shows in the head";
}

TEST_F(MisuseTest, ALinkThatLeadsElsewhere) {
  Block elsewhere;
  chain(6);
  blocks_[3]->link(&elsewhere);
  EXPECT_EQ(check(blocks_[0], 5), nullptr);
  blocks_[3]->link(reinterpret_cast<Block*>(reinterpret_cast<char*>(blocks_[7]) + 16));
  EXPECT_EQ(check(blocks_[0], 6), nullptr);
  EXPECT_NE(said_.find("inside a block"), std::string::npos) << said_;
  blocks_[3]->link(reinterpret_cast<Block*>(uintptr_t{0x4141414141414141}));
  EXPECT_EQ(check(blocks_[0], 6), nullptr) << "and it was not followed";
  blocks_[3]->link(reinterpret_cast<Block*>(slab_->block_at(slab_->carved.load())));
  EXPECT_EQ(check(blocks_[0], 6), nullptr) << "that block was never handed out";
  blocks_[3]->link(reinterpret_cast<Block*>(slab_->start - kSize));
  EXPECT_EQ(check(blocks_[0], 6), nullptr);
}

TEST_F(MisuseTest, TheFirstIsNoBlock) {
  chain(3);
  EXPECT_EQ(check(reinterpret_cast<Block*>(reinterpret_cast<char*>(blocks_[0]) + 8), 3), nullptr);
}

TEST_F(MisuseTest, ForeignPointersAreCounted) {
  uint64_t before = foreign_count();
  testing::internal::CaptureStderr();
  int local;
  misuse_foreign(Use::kFree, &local);
  misuse_foreign(Use::kRealloc, &local);
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(foreign_count(), before + 2);
  EXPECT_NE(said.find("tally: free of 0x"), std::string::npos);
  EXPECT_NE(said.find("\ntally: realloc of 0x"), std::string::npos);
  EXPECT_EQ(said.back(), '\n');
}

// After a damaged list that the program chose to go on with, there are still good blocks to be had.
TEST_F(MisuseTest, ADamagedSlabLosesBlocksAndNoMore) {
  if (kChecks) GTEST_SKIP() << "a build with checks stops at the slab's equation";
  tally_tag tag = make_tag("/unit/misuse/goes_on");
  std::vector<void*> blocks;
  for (int i = 0; i < 300; ++i) blocks.push_back(tally_malloc(tag, 128));
  for (void* p : blocks) tally_free(p);
  memset(blocks.back(), 0x41, 128);  // the head of its slab's list
  testing::internal::CaptureStderr();
  std::vector<void*> again;
  for (int i = 0; i < 3000; ++i) again.push_back(tally_malloc(tag, 128));
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("tally: "), std::string::npos);
  for (size_t i = 0; i < again.size(); ++i) {
    ASSERT_NE(again[i], nullptr);
    fill(again[i], 128, static_cast<unsigned>(i));
  }
  for (size_t i = 0; i < again.size(); ++i) {
    ASSERT_TRUE(is_filled(again[i], 128, static_cast<unsigned>(i))) << "given twice";
  }
}

}  // namespace
}  // namespace tally::unit
