#include "tag/names.h"

#include <string>
#include <vector>

#include "unit.h"

namespace tally::unit {
namespace {

using core::Names;

class NamesTest : public testing::Test {
 protected:
  NamesTest() : memory_(Names::kBytes), file_(Names::kTextMost + Names::kCells * sizeof(uint64_t)) {
    names_.reset(memory_.data());
  }
  const char* at(uint32_t offset) const { return memory_.data() + offset; }
  uint32_t offset_of(const std::string& path) { return names_.offset_of(path.c_str()); }

  // As a reader has them.
  int write() {
    return names_.write_new([this](const void* data, size_t bytes, size_t offset) {
      EXPECT_LE(offset + bytes, file_.size());
      EXPECT_TRUE(offset >= Names::kTextMost || offset + bytes <= names_.kTextMost);
      writes_.push_back(offset);
      memcpy(file_.data() + offset, data, bytes);
      return 0;
    });
  }
  void publish() {
    EXPECT_EQ(write(), 0);
    names_.publish();
  }
  uint64_t since(uint32_t offset) const {
    uint64_t since;
    memcpy(&since, &file_[Names::kTextMost + offset / Names::kCell * sizeof since], sizeof since);
    return since;
  }

  std::vector<char> memory_, file_;
  std::vector<size_t> writes_;
  Names names_;
};

TEST_F(NamesTest, EachIsOnceAndStays) {
  EXPECT_EQ(offset_of("/"), 0U);
  uint32_t cache = offset_of("/cache");
  EXPECT_STREQ(at(cache), "/cache");
  EXPECT_EQ(offset_of("/cache/blocks"), cache + Names::kCell);
  EXPECT_EQ(offset_of("/cache"), cache);
  EXPECT_EQ(offset_of("/"), 0U);
  EXPECT_EQ(offset_of("/" + std::string(Names::kCell, 'x')), 3 * Names::kCell);
  EXPECT_EQ(offset_of("/behind"), 5 * Names::kCell) << "two cells, for its NUL";
}

TEST_F(NamesTest, MoreAndMoreAreFound) {
  std::vector<uint32_t> offsets;
  for (int i = 0; i < 16000; ++i) offsets.push_back(offset_of("/tenant/" + std::to_string(i)));
  for (int i = 0; i < 16000; ++i) {
    std::string path = "/tenant/" + std::to_string(i);
    ASSERT_EQ(offset_of(path), offsets[i]) << path;
    ASSERT_STREQ(at(offsets[i]), path.c_str());
  }
}

TEST_F(NamesTest, WhatThereIsNoRoomForHasNone) {
  std::string path(255, 'x');
  uint32_t count = 0;
  for (uint32_t offset = 0; offset != Names::kNone; ++count) {
    path.replace(0, 8, std::to_string(10000000 + count));
    offset = offset_of(path);
    ASSERT_TRUE(offset == Names::kNone || offset + path.size() + 1 <= Names::kTextMost);
  }
  EXPECT_EQ(count, Names::kTextMost / 256 + 1);
  path.replace(0, 8, "10000000");
  EXPECT_EQ(offset_of(path), 0U) << "what is there stays";
  publish();
  EXPECT_EQ(offset_of("/"), Names::kNone) << "the publication before has all";
  publish();
  EXPECT_NE(offset_of("/"), Names::kNone);
}

TEST_F(NamesTest, WhatTwoPublicationsHaveNoUseForIsGivenUp) {
  const uint32_t stays = names_.offset_of("/stays", true), kept = offset_of("/kept");
  const uint32_t used = offset_of("/used");
  for (uint32_t i = 3; i < Names::kCells; ++i) offset_of("/old/" + std::to_string(i));
  EXPECT_EQ(offset_of("/new"), Names::kNone);
  publish();
  names_.keep(kept);
  EXPECT_EQ(offset_of("/used"), used);
  EXPECT_EQ(offset_of("/new"), Names::kNone);
  publish();
  EXPECT_EQ(offset_of("/used"), used);
  EXPECT_EQ(offset_of("/new"), 3 * Names::kCell) << "the first that nobody needs";
  EXPECT_EQ(offset_of("/newer/" + std::string(40, 'x')), 4 * Names::kCell);
  EXPECT_EQ(offset_of("/old/9"), 9 * Names::kCell) << "of the others each is still there";
  EXPECT_EQ(offset_of("/old/5"), 6 * Names::kCell) << "and these were not";
  publish();
  EXPECT_EQ(offset_of("/stays"), stays);
  EXPECT_EQ(offset_of("/used"), used);
  EXPECT_EQ(offset_of("/newest"), 7 * Names::kCell);
}

TEST_F(NamesTest, WritesWhatChangedAndSinceWhenFirst) {
  offset_of("/");
  offset_of("/a");
  EXPECT_EQ(names_.write_new([](const void*, size_t, size_t) { return ENOSPC; }), ENOSPC);
  publish();
  EXPECT_EQ(writes_, (std::vector<size_t>{Names::kTextMost, 0}));
  EXPECT_EQ(names_.used(), 2 * Names::kCell);
  EXPECT_STREQ(&file_[Names::kCell], "/a");
  EXPECT_EQ(since(Names::kCell), 1U);
  publish();
  EXPECT_EQ(writes_.size(), 2U) << "nothing is new";
  const uint32_t b = offset_of("/b");
  publish();
  EXPECT_EQ(writes_, (std::vector<size_t>{Names::kTextMost, 0, Names::kTextMost + 2 * 8, b}));
  EXPECT_STREQ(&file_[b], "/b");
  EXPECT_EQ(since(b), 3U);
}

TEST_F(NamesTest, BeginsAnewInAnotherFile) {
  for (int i = 0; i < 5; ++i) {
    offset_of("/" + std::to_string(i));
    publish();
  }
  const uint32_t three = offset_of("/3");
  file_.assign(file_.size(), 'x');
  names_.begin_anew();
  publish();
  EXPECT_STREQ(&file_[three], "/3");
  EXPECT_EQ(since(three), 0U) << "as long as any of it";
  const uint32_t five = offset_of("/5");
  publish();
  EXPECT_EQ(since(five), 2U);
}

// A reader of any publication finds each of its names, or learns that it is gone; and of the two
// last finds all.
TEST_F(NamesTest, AreRightOrKnownToBeGone) {
  struct Reference {
    uint64_t publication;
    uint32_t offset;
    std::string path;
  };
  std::vector<Reference> all;
  std::vector<std::string> live;
  Random random(3);
  size_t gone = 0;
  for (uint64_t publication = 1; publication <= 300; ++publication) {
    while (live.size() < 500) {
      live.push_back("/" + std::to_string(random.next()) + std::string(random.below(90), 'x'));
    }
    for (std::string& path : live) {
      const uint32_t offset = offset_of(path);
      ASSERT_NE(offset, Names::kNone);
      all.push_back({publication, offset, path});
    }
    publish();
    std::erase_if(live, [&](const std::string&) { return random.below(3) == 0; });
    for (const Reference& of : all) {
      const bool is_there = since(of.offset) <= of.publication;
      ASSERT_TRUE(is_there || of.publication + 1 < publication);
      if (is_there) {
        ASSERT_EQ(of.path, &file_[of.offset]);
      }
      gone += !is_there;
    }
    if (publication % 40 == 0) all.clear();
  }
  EXPECT_GT(gone, 10000U);
}

}  // namespace
}  // namespace tally::unit
