#include "heap/last_look.h"

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// What is said of lists that are wrong, and that nothing is of those that a step may leave behind.
// The exact messages are tests/misuse's. What a test does to a list it undoes, as there is a last
// look at this process too.
class LastLookTest : public testing::Test {
 protected:
  static constexpr uint32_t kSize = 64, kBlocks = 40;

  LastLookTest() {
    options.abort_on_corruption = false;
    options.check = true;
    tag_ = make_tag("/unit/last_look");
    for (uint32_t i = 0; i < kBlocks; ++i) {
      blocks_.push_back(static_cast<Block*>(tally_malloc(tag_, kSize)));
    }
    slab_ = slab_of(blocks_[0]);
    for (uint32_t i = 0; i < kBlocks; i += 2) tally_free(blocks_[i]);
    class_ = &heap_of(tag_)->classes[slab_->what().size_class];
  }
  // A block on the slab's list, by the turn in which it was freed.
  Block* freed(uint32_t i) { return blocks_[2 * i]; }
  std::string look() {
    testing::internal::CaptureStderr();
    look_at_end([] { return true; });
    return testing::internal::GetCapturedStderr();
  }
  // With the block's link so for the time.
  std::string look_with_link(Block* block, Block* link) {
    Block* had = block->next();
    block->link(link);
    std::string said = look();
    block->link(had);
    return said;
  }

  KeepOptions keep_;
  tally_tag tag_;
  std::vector<Block*> blocks_;
  Slab* slab_;
  Heap::Class* class_;
};

bool has(const std::string& said, const char* text) {
  return said.find(text) != std::string::npos && said.back() == '\n';
}

TEST_F(LastLookTest, NothingIsSaidOfAHeapInUse) {
  Random random(1);
  std::vector<void*> live(500);
  for (int i = 0; i < 30000; ++i) {
    void*& p = live[random.below(live.size())];
    tally_free(p);
    p = tally_malloc(i % 2 == 0 ? tag_ : TALLY_TAG_ROOT, random.below(3000));
    if (i % 1000 == 0) {
      EXPECT_EQ(look(), "");
    }
  }
  // Blocks of another thread's, on their way back.
  on_thread([&] {
    for (void* p : live) tally_free(p);
    EXPECT_EQ(look(), "");
  });
  EXPECT_EQ(look(), "");
}

TEST_F(LastLookTest, ARing) {
  // More are counted than it has.
  EXPECT_TRUE(has(look_with_link(freed(9), freed(9)), "tally: double free of 0x"));
  EXPECT_TRUE(has(look_with_link(freed(2), freed(5)), "tally: double free of 0x"));
  // It has all that are counted: a link was written to.
  EXPECT_TRUE(has(look_with_link(freed(0), freed(5)), "tally: free list damaged at 0x"));
  EXPECT_TRUE(has(look_with_link(freed(0), freed(0)), "tally: free list damaged at 0x"));
  options.check = false;
  EXPECT_EQ(look_with_link(freed(0), freed(5)), "");
}

TEST_F(LastLookTest, ALinkThatIsNone) {
  auto* nowhere = reinterpret_cast<Block*>(uintptr_t{0x4141414141414141});
  EXPECT_TRUE(has(look_with_link(freed(4), nowhere), "tally: free list damaged at 0x"));
  options.check = false;
  EXPECT_EQ(look_with_link(freed(4), nowhere), "") << "with libc the program would end in peace";
  EXPECT_TRUE(has(look_with_link(freed(4), freed(9)), "tally: double free of 0x"));
  options.check = true;
  void* other = tally_malloc(tag_, 2 * kSize);
  EXPECT_TRUE(has(look_with_link(freed(4), static_cast<Block*>(other)), "free list damaged at 0x"));
  tally_free(other);
  EXPECT_TRUE(has(look_with_link(freed(4), nullptr), "tally: free list damaged at 0x"))
      << "it is too short";
  EXPECT_EQ(look(), "");
}

TEST_F(LastLookTest, ABlockThatIsInHand) {
  // As free would have it of the second block in hand.
  Block* first = class_->list;
  Block* twice = first->next();
  Block* rest = twice->next();
  Block* had = slab_->free;
  twice->link(had);
  slab_->free = twice;
  EXPECT_TRUE(has(look(), "tally: double free of 0x"));
  slab_->free = had;
  twice->link(rest);
  EXPECT_EQ(look(), "");
}

TEST_F(LastLookTest, AStepThatWasInterrupted) {
  // free has put the block on the list, and not counted it yet.
  Block* had = slab_->free;
  blocks_[1]->link(had);
  slab_->free = blocks_[1];
  EXPECT_EQ(look(), "");
  slab_->free = had;
  // malloc has taken the block off, and not counted it yet. But it takes no second one.
  Block* list = class_->list;
  class_->list = list->next();
  EXPECT_EQ(look(), "");
  class_->list = class_->list->next();
  EXPECT_TRUE(has(look(), "free list damaged at 0x"));
  class_->list = list;
  // In the midst of the slow path.
  tls.thread->lock.acquire();
  EXPECT_EQ(look_with_link(freed(0), freed(5)), "");
  tls.thread->lock.release();
}

TEST_F(LastLookTest, OfAHeapOfAnySizeItTakesAMoment) {
  std::vector<void*> blocks;
  for (int i = 0; i < 200000; ++i) blocks.push_back(tally_malloc(tag_, 48));
  Random random(2);
  for (size_t i = blocks.size() - 1; i != 0; --i) std::swap(blocks[i], blocks[random.below(i)]);
  for (size_t i = 0; i < blocks.size(); i += 2) tally_free(blocks[i]);
  // More than can be looked at: nothing is made of where it ends.
  EXPECT_EQ(look(), "");
  for (size_t i = 1; i < blocks.size(); i += 2) tally_free(blocks[i]);
}

}  // namespace
}  // namespace tally::unit
