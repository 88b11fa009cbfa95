#include "tag/names.h"

#include <string>
#include <vector>

#include "unit.h"

namespace tally::unit {
namespace {

using core::Names;

class NamesTest : public testing::Test {
 protected:
  NamesTest() : memory_(Names::kBytes, 'x') { names_.reset(memory_.data()); }
  const char* at(uint32_t offset) const { return memory_.data() + offset; }

  std::vector<char> memory_;
  Names names_;
};

TEST_F(NamesTest, EachIsOnceAndStays) {
  EXPECT_EQ(names_.offset_of("/"), 0U);
  uint32_t cache = names_.offset_of("/cache");
  EXPECT_STREQ(at(cache), "/cache");
  EXPECT_EQ(names_.offset_of("/cache/blocks"), cache + sizeof "/cache");
  EXPECT_EQ(names_.offset_of("/cache"), cache);
  EXPECT_EQ(names_.offset_of("/"), 0U);
}

TEST_F(NamesTest, MoreAndMoreAreFound) {
  std::vector<uint32_t> offsets;
  for (int i = 0; i < 20000; ++i) {
    offsets.push_back(names_.offset_of(("/tenant/" + std::to_string(i)).c_str()));
  }
  for (int i = 0; i < 20000; ++i) {
    std::string path = "/tenant/" + std::to_string(i);
    ASSERT_EQ(names_.offset_of(path.c_str()), offsets[i]) << path;
    ASSERT_STREQ(at(offsets[i]), path.c_str());
  }
}

TEST_F(NamesTest, WhatThereIsNoRoomForHasNone) {
  std::string path(255, 'x');
  uint32_t count = 0;
  for (uint32_t offset = 0; offset != Names::kNone; ++count) {
    path.replace(0, 8, std::to_string(10000000 + count));
    offset = names_.offset_of(path.c_str());
    ASSERT_TRUE(offset == Names::kNone || offset + path.size() + 1 <= Names::kTextMost);
  }
  EXPECT_EQ(count, Names::kTextMost / 256 + 1);
  path.replace(0, 8, "10000000");
  EXPECT_EQ(names_.offset_of(path.c_str()), 0U) << "what is there stays";
}

TEST_F(NamesTest, ShortOnesEndWithTheTable) {
  uint32_t kept = 0;
  while (names_.offset_of(std::to_string(kept).c_str()) != Names::kNone) ++kept;
  EXPECT_GT(kept, Names::kTableMost / 2);
  EXPECT_LT(kept, Names::kTableMost);
}

TEST_F(NamesTest, WritesWhatIsNew) {
  uint32_t written = 0;
  std::string copy;
  auto write = [&](const char* text, uint32_t bytes, uint32_t offset) {
    EXPECT_EQ(offset, copy.size());
    copy.append(text, bytes);
    ++written;
    return 0;
  };
  names_.offset_of("/");
  names_.offset_of("/a");
  EXPECT_EQ(names_.write_new([](const char*, uint32_t, uint32_t) { return ENOSPC; }), ENOSPC);
  EXPECT_EQ(names_.written(), 0U);
  EXPECT_EQ(names_.write_new(write), 0);
  EXPECT_EQ(names_.write_new(write), 0);
  EXPECT_EQ(written, 1U);
  names_.offset_of("/b");
  EXPECT_EQ(names_.write_new(write), 0);
  EXPECT_EQ(copy, std::string("/\0/a\0/b\0", 8));
  EXPECT_EQ(names_.written(), 8U);
}

}  // namespace
}  // namespace tally::unit
