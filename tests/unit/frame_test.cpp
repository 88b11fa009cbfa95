#include "record/frame.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace record;

// A snapshot as the test wants it.
class FrameTest : public testing::Test {
 protected:
  FrameTest() : names_memory_(core::Names::kBytes), frame_memory_(kFrameBytes / 8) {
    names_.reset(names_memory_.data());
    add("/", TALLY_TAG_NONE, 0, 0);
  }
  // In the order of paths.
  void add(const std::string& path, uint32_t parent, uint64_t own, uint64_t total) {
    tally_stats_t tag = {};
    tag.id = static_cast<uint32_t>(tags_.size()) + 7;
    tag.parent = parent;
    tag.own.footprint_bytes = own;
    tag.own.live_bytes = own / 2;
    tag.total.footprint_bytes = total;
    paths_.push_back(std::make_unique<std::string>(path));
    tag.name = paths_.back()->c_str();
    tags_.push_back(tag);
  }
  void add_class(uint32_t tag, uint32_t size) {
    tally_class_stats_t row = {};
    row.tag = tag;
    row.block_size = size;
    classes_.push_back(row);
  }
  void pack() {
    snapshot_.tags = tags_.data();
    snapshot_.tag_count = tags_.size();
    snapshot_.classes = classes_.data();
    snapshot_.class_count = classes_.size();
    char* end = pack_rows(snapshot_, names_, head());
    EXPECT_EQ(static_cast<void*>(end), class_rows() + head()->class_count);
  }
  FrameHead* head() { return reinterpret_cast<FrameHead*>(frame_memory_.data()); }
  const TagRow* tag_rows() { return reinterpret_cast<const TagRow*>(head() + 1); }
  const ClassRow* class_rows() {
    return reinterpret_cast<const ClassRow*>(tag_rows() + head()->tag_count);
  }
  std::string name(uint32_t offset) { return names_memory_.data() + offset; }

  std::vector<char> names_memory_;
  std::vector<uint64_t> frame_memory_;
  core::Names names_;
  std::vector<std::unique_ptr<std::string>> paths_;
  std::vector<tally_stats_t> tags_;
  std::vector<tally_class_stats_t> classes_;
  tally_snapshot_t snapshot_ = {};
};

TEST_F(FrameTest, HasAllThatTheSnapshotHas) {
  add("/a", 7, 100, 100);
  tags_[1].soft_limit_bytes = 5;
  tags_[1].own.alloc_count = 9;
  add_class(7, 16);
  add_class(8, 32);
  classes_[1].fill[9] = 3;
  classes_[1].slabs = 3;
  pack();
  ASSERT_EQ(head()->tag_count, 2U);
  ASSERT_EQ(head()->class_count, 2U);
  EXPECT_EQ(head()->tags_left_out + head()->classes_left_out, 0U);
  EXPECT_EQ(name(tag_rows()[1].name), "/a");
  EXPECT_EQ(tag_rows()[1].id, 8U);
  EXPECT_EQ(tag_rows()[1].parent, 7U);
  EXPECT_EQ(tag_rows()[1].soft_limit, 5U);
  EXPECT_EQ(tag_rows()[1].own.alloc_count, 9U);
  EXPECT_EQ(tag_rows()[1].total.footprint_bytes, 100U);
  EXPECT_EQ(class_rows()[1].tag, 8U);
  EXPECT_EQ(class_rows()[1].fill[9], 3U);
}

TEST_F(FrameTest, OfMoreTagsThanFitTheLargestStayWithWhatIsAboveThem) {
  tags_[0].total.footprint_bytes = 1000000;
  for (unsigned i = 0; i < 3000; ++i) {
    std::string group = "/g" + std::to_string(1000 + i / 10);
    const uint64_t own = i % 7 == 0 ? 500 : 10;
    if (i % 10 == 0) add(group, 7, 0, 600);
    add(group + "/t" + std::to_string(i % 10), static_cast<uint32_t>(7 + tags_.size() - 1 - i % 10),
        own, own);
    add_class(tags_.back().id, 48);
  }
  pack();
  EXPECT_EQ(head()->tag_count, kTagsMax);
  EXPECT_EQ(head()->tags_left_out, tags_.size() - kTagsMax);
  std::set<uint32_t> ids;
  size_t large = 0;
  for (unsigned i = 0; i < kTagsMax; ++i) {
    const TagRow& row = tag_rows()[i];
    EXPECT_TRUE(i == 0 || ids.contains(row.parent)) << name(row.name);
    ids.insert(row.id);
    large += row.total.footprint_bytes >= 500;
  }
  EXPECT_EQ(large, 1 + 300 + 429U) << "all of them";
  for (unsigned i = 0; i < head()->class_count; ++i) {
    EXPECT_TRUE(ids.contains(class_rows()[i].tag));
  }
  EXPECT_EQ(head()->class_count + head()->classes_left_out, 3000U);
}

TEST_F(FrameTest, OfMoreClassesThanFitTheFirstStay) {
  for (unsigned i = 0; i < kClassesMax + 5; ++i) add_class(7, i);
  pack();
  EXPECT_EQ(head()->class_count, kClassesMax);
  EXPECT_EQ(head()->classes_left_out, 5U);
}

TEST_F(FrameTest, TagsWithoutRoomForTheirNamesAreLeftOut) {
  pack();
  std::string path(255, 'x');
  for (unsigned i = 0; names_.offset_of(path.c_str()) != core::Names::kNone; ++i) {
    path.replace(0, 8, std::to_string(10000000 + i));
  }
  add(std::string(255, 'y'), 7, 100, 100);
  add_class(8, 16);
  pack();
  EXPECT_EQ(head()->tag_count, 1U);
  EXPECT_EQ(head()->tags_left_out, 1U);
  EXPECT_EQ(head()->classes_left_out, 1U);
}

TEST_F(FrameTest, APointHasTheLargestOfTheirOwnFirst) {
  for (uint64_t i = 1; i <= 100; ++i) {
    add("/" + std::to_string(i), 7, i * 37 % 101 * 1024, 1 << 30);
  }
  snapshot_.tags = tags_.data();
  snapshot_.tag_count = tags_.size();
  Point point;
  pack_point(snapshot_, names_, &point);
  ASSERT_EQ(point.tag_count, kPointTagsMax);
  for (unsigned i = 0; i < kPointTagsMax; ++i) {
    EXPECT_EQ(point.tags[i].footprint_kib, 100 - i);
    EXPECT_EQ(point.tags[i].live_kib, (100 - i) / 2);
  }
}

TEST_F(FrameTest, TheLedgerAddsUpToTheFootprint) {
  add("/a", 7, 0, 0);
  tags_[1].own.large_live_bytes = 1000000;
  tags_[1].own.large_live_blocks = 2;
  tags_[1].own.charged_bytes = 77;
  add_class(8, 100);
  classes_[0].live_blocks = 30;
  classes_[0].footprint_bytes = 8192;
  classes_[0].empty_bytes = 4096;
  classes_[0].alloc_count = 10;
  classes_[0].requested_bytes = 900;
  snapshot_.tags = tags_.data();
  snapshot_.tag_count = tags_.size();
  snapshot_.classes = classes_.data();
  snapshot_.class_count = 1;
  Ledger ledger = ledger_of(snapshot_);
  EXPECT_EQ(ledger.live, 1003000U);
  EXPECT_EQ(ledger.empty_slabs, 4096U);
  EXPECT_EQ(ledger.in_slabs, 8192U - 3000 - 4096);
  EXPECT_EQ(ledger.charged, 77U);
  EXPECT_EQ(ledger.rounding, 30 * 10 + core::os::page_size());
}

}  // namespace
}  // namespace tally::unit
