#include "fragmentation.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "bars.h"
#include "difference.h"
#include "record_file.hpp"
#include "record_reader.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;
using test::RecordFile;

constexpr uint64_t kMiB = 1 << 20;

Record record_of(RecordFile file) {
  const std::string path = fs::temp_directory_path() / "tally-fragmentation-XXXXXX";
  std::string name = path;
  close(mkstemp(name.data()));
  RecordFile::write(name, file.bytes());
  Record record = Reader(name).read();
  fs::remove(name);
  return record;
}

record::ClassRow class_row(uint32_t tag, uint32_t size, uint64_t live_blocks, uint64_t footprint,
                           uint32_t slabs) {
  record::ClassRow row = {};
  row.tag = tag;
  row.block_size = size;
  row.live_blocks = live_blocks;
  row.capacity_blocks = footprint / size;
  row.footprint = footprint;
  row.slabs = row.fill[9] = slabs;
  return row;
}

class Fragments : public testing::Test {
 protected:
  Fragments() {
    file_.add_tag("/", 3 * kMiB, 4 * kMiB);
    file_.add_tag("/cache", 0, 0);
    file_.add_tag("/cache/blocks", 64 * kMiB, 96 * kMiB);
    file_.add_tag("/cachet", kMiB, 2 * kMiB);
    file_.add_tag("/tally", 9 * kMiB, 9 * kMiB);
    file_.tags[3].own.charged_bytes = kMiB;
    file_.classes = {class_row(0, 64, 3 * kMiB / 64, 4 * kMiB, 64),
                     class_row(2, 1024, 65536, 96 * kMiB, 1536), class_row(3, 64, 0, kMiB, 1)};
  }
  void make_sparse(uint64_t free) {
    file_.classes[1].sparse_slabs = 700;
    file_.classes[1].sparse_free = free;
  }

  RecordFile file_;
};

TEST_F(Fragments, AreWhatIsTakenAndNotLive) {
  const Record record = record_of(file_);
  const Fragmentation all = fragmentation_of(record);
  EXPECT_EQ(all.held.live, 67 * kMiB);  // neither /tally nor what was charged
  EXPECT_EQ(all.held.footprint, 101 * kMiB);
  EXPECT_EQ(all.free, 34 * kMiB);
  EXPECT_DOUBLE_EQ(all.ratio(), 101.0 / 67);
  EXPECT_EQ(all.slabs, 64u + 1536 + 1);
  EXPECT_EQ(all.lone_slabs, 1u);
  EXPECT_EQ(all.lone_free, kMiB);
  ASSERT_EQ(all.rows.size(), 3u);
  EXPECT_EQ(all.rows[0].tag, "/cache/blocks");
  EXPECT_EQ(all.rows[0].free, 32 * kMiB);
  EXPECT_EQ(all.rows[1].tag, "/");  // before /cachet: as much, by name
  EXPECT_EQ(all.rows[2].tag, "/cachet");
}

TEST_F(Fragments, OfATagAreItsAndThoseBelow) {
  const Record record = record_of(file_);
  const Fragmentation cache = fragmentation_of(record, "/cache");
  EXPECT_EQ(cache.held.footprint, 96 * kMiB);
  ASSERT_EQ(cache.rows.size(), 1u);
  EXPECT_TRUE(is_within("/cache", "/cache"));
  EXPECT_TRUE(is_within("/cache/blocks", "/cache"));
  EXPECT_FALSE(is_within("/cachet", "/cache"));
  EXPECT_FALSE(is_within("/", "/cache"));
  EXPECT_TRUE(is_within("/cache", "/"));
}

TEST_F(Fragments, ArePinnedByThoseWhoseSparseSlabsHoldMost) {
  make_sparse(20 * kMiB);
  file_.classes[0].sparse_slabs = 9;
  file_.classes[0].sparse_free = 1;
  const Record record = record_of(file_);
  const Fragmentation all = fragmentation_of(record);
  EXPECT_EQ(all.sparse_slabs, 709u);
  EXPECT_EQ(all.sparse_free, 20 * kMiB + 1);
  const auto rows = pinning(all, 5);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]->tag, "/cache/blocks");
  EXPECT_EQ(pinning(all, 1).size(), 1u);
}

TEST_F(Fragments, SayWhatToDo) {
  auto advice = [this] {
    const Record record = record_of(file_);
    return advice_on(fragmentation_of(record));
  };
  EXPECT_TRUE(advice().starts_with("nothing, if the program will allocate as much again"));
  make_sparse(20 * kMiB);
  EXPECT_TRUE(advice().starts_with("free the blocks that pin sparse slabs")) << advice();
  file_.classes[1].slabs = 1;
  EXPECT_TRUE(advice().starts_with("little: most of it is in 2 slabs that are the only one"));
  file_.tags[0].own.live_bytes *= 1000;
  EXPECT_TRUE(advice().starts_with("nothing: what is free in slabs is less than a tenth"));
}

// Whatever a file says.
TEST_F(Fragments, AreNotNegative) {
  for (record::TagRow& tag : file_.tags) tag.own.charged_bytes = UINT64_MAX;
  for (record::ClassRow& row : file_.classes) row.live_blocks = UINT64_MAX, row.tag = 99;
  const Record record = record_of(file_);
  const Fragmentation all = fragmentation_of(record);
  EXPECT_EQ(all.held.footprint, 0u);
  EXPECT_EQ(all.ratio(), 0);
  ASSERT_EQ(all.rows.size(), 3u);
  EXPECT_EQ(all.rows[0].tag, "(left out)");
  EXPECT_EQ(all.rows[0].free, 0u);
  EXPECT_TRUE(fragmentation_of(record, "/cache").rows.empty());
}

TEST(BarsOfNumbers, AreAsHighAsTheNumbers) {
  const uint64_t values[] = {0, 1, 50, 99, 100, 1000};
  EXPECT_EQ(bars(values, 100, Bars::kDigits), ".15999");
  EXPECT_EQ(bars(values, 100, Bars::kBlocks), "\u00b7\u2581\u2584\u2588\u2588\u2588");
  EXPECT_EQ(bars(values, 0, Bars::kDigits), ".11111");
  EXPECT_EQ(bars({}, 9, Bars::kDigits), "");
  record::ClassRow row = {};
  row.fill[0] = 4;
  row.fill[9] = 9;
  EXPECT_EQ(fill_of(row, Bars::kDigits), "4........9");
}

TEST_F(Fragments, DifferenceIsByPathAndSize) {
  file_.frame.time = 1'000'000'000'000;
  file_.frame.uptime = 50'000'000'000;
  file_.frame.ledger.rss = 200 * kMiB;
  const Record before = record_of(file_);
  file_.frame.time += 1;  // the clock was set meanwhile
  file_.frame.uptime += 10'000'000'000;
  file_.frame.ledger.rss = 190 * kMiB;
  // The ids are others: /cachet is gone, /new is new.
  file_.tags.erase(file_.tags.begin() + 3);
  file_.tags[2].own.live_bytes += kMiB;
  file_.tags[2].own.live_blocks += 1024;
  file_.tags[2].own.alloc_count += 2000;
  const uint32_t id = file_.add_tag("/new", 2 * kMiB, 3 * kMiB).id = 7;
  file_.classes[1].live_blocks += 1024;
  file_.classes[2] = class_row(id, 64, 2 * kMiB / 64, 3 * kMiB, 48);
  const Record after = record_of(file_);

  const Difference all = difference(before, after, Order::kGrowth);
  EXPECT_TRUE(all.is_same_process);
  ASSERT_TRUE(all.seconds.has_value());
  EXPECT_DOUBLE_EQ(*all.seconds, 10);
  EXPECT_EQ(all.rss.grew(), -int64_t(10 * kMiB));
  EXPECT_EQ(all.live.grew(), int64_t(3 * kMiB));
  ASSERT_EQ(all.tags.size(), 3u);
  EXPECT_EQ(all.tags[0].tag, "/new");
  EXPECT_EQ(all.tags[0].fate, Fate::kNew);
  EXPECT_EQ(all.tags[1].tag, "/cache/blocks");
  EXPECT_EQ(all.tags[1].fate, Fate::kStayed);
  EXPECT_EQ(all.tags[1].live.grew(), int64_t(kMiB));
  EXPECT_EQ(all.tags[1].blocks.grew(), 1024);
  EXPECT_EQ(all.tags[1].allocs.grew(), 2000);
  EXPECT_EQ(all.tags[2].tag, "/cachet");
  EXPECT_EQ(all.tags[2].fate, Fate::kGone);
  EXPECT_EQ(all.tags[2].live.grew(), -int64_t(kMiB));
  ASSERT_EQ(all.classes.size(), 3u);
  EXPECT_EQ(all.classes[0].tag, "/new");
  EXPECT_EQ(all.classes[1].tag, "/cache/blocks");
  EXPECT_EQ(all.classes[1].live.grew(), int64_t(kMiB));
  EXPECT_EQ(all.classes[2].fate, Fate::kGone);
  EXPECT_EQ(difference(before, after, Order::kName).tags[0].tag, "/cache/blocks");
  // The other way round there is no time to divide by.
  EXPECT_FALSE(difference(after, before, Order::kGrowth).seconds.has_value());
  EXPECT_TRUE(difference(after, after, Order::kGrowth).tags.empty());
}

// What no program runs for is no time, as a number of nanoseconds has no room for it.
TEST_F(Fragments, DifferenceOfAllTimesIsNone) {
  file_.head.pid = 12;
  file_.frame.time = INT64_MIN;
  const Record before = record_of(file_);
  file_.head.pid = 13;
  file_.frame.time = INT64_MAX;
  EXPECT_FALSE(difference(before, record_of(file_), Order::kGrowth).seconds.has_value());
}

TEST_F(Fragments, DifferenceOfProcessesIsByTheWall) {
  const Record before = record_of(file_);
  file_.head.pid = 12;
  file_.frame.time += 2'000'000'000;
  const Difference all = difference(before, record_of(file_), Order::kGrowth);
  EXPECT_FALSE(all.is_same_process);
  EXPECT_DOUBLE_EQ(all.seconds.value_or(0), 2);
}

TEST(FormatChange, HasASign) {
  EXPECT_EQ(format_change(0), "0 B");
  EXPECT_EQ(format_change(1536), "+1.50 KiB");
  EXPECT_EQ(format_change(-64), "-64 B");
  EXPECT_EQ(format_change(INT64_MIN), "-8.00 EiB");
  EXPECT_EQ(format_change_of_count(0), "0");
  EXPECT_EQ(format_change_of_count(7), "+7");
  EXPECT_EQ(format_change_of_count(-7), "-7");
}

}  // namespace
}  // namespace tally::tool
