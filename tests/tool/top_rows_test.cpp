#include "top_rows.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "record_file.hpp"
#include "watch.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;
using test::RecordFile;
using test::WriterLock;

constexpr uint64_t kMiB = 1 << 20;

class TopRows : public testing::Test {
 protected:
  TopRows() {
    folder_ = mkdtemp(folder_.data());
    path_ = folder_ + "/a.tally";
    file_.add_tag("/", kMiB, 2 * kMiB);
    file_.add_tag("/cache", 0, 0);
    file_.add_tag("/cache/blocks", 64 * kMiB, 90 * kMiB);
    file_.add_tag("/cache/Index", 4 * kMiB, 5 * kMiB);
    file_.add_tag("/net", 8 * kMiB, 8 * kMiB);
    file_.add_tag("/empty", 0, 0);
    add_up();
    file_.frame.uptime = 10'000'000'000;
  }
  ~TopRows() override { fs::remove_all(folder_); }

  void add_up() {
    for (record::TagRow& tag : file_.tags) tag.total = tag.own;
    for (size_t below : {2, 3}) add(&file_.tags[1], file_.tags[below]);
    for (size_t below : {1, 4, 5}) {
      record::TagRow all = file_.tags[below];
      all.own = all.total;
      add(&file_.tags[0], all);
    }
  }
  static void add(record::TagRow* to, const record::TagRow& tag) {
    to->total.live_bytes += tag.own.live_bytes;
    to->total.footprint_bytes += tag.own.footprint_bytes;
    to->total.alloc_count += tag.own.alloc_count;
  }

  Record read(uint64_t sequence) {
    RecordFile::write(path_, file_.bytes(sequence));
    return Reader(path_).read();
  }
  // Two seconds later: /net grew by a MiB, /cache/blocks shrank by two and allocated most.
  Record read_later() {
    file_.frame.uptime += 2'000'000'000;
    file_.tags[4].own.live_bytes += kMiB;
    file_.tags[4].own.alloc_count += 100;
    file_.tags[2].own.live_bytes -= 2 * kMiB;
    file_.tags[2].own.alloc_count += 5000;
    add_up();
    return read(2);
  }
  static std::vector<std::string> names(const std::vector<TopRow>& rows) {
    std::vector<std::string> list;
    for (const TopRow& row : rows) list.push_back(row.name);
    return list;
  }
  using Names = std::vector<std::string>;

  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
  std::string path_;
  RecordFile file_;
};

TEST_F(TopRows, AreInTheOrderThatWasAskedFor) {
  const Record before = read(1);
  const Record now = read_later();
  auto by = [&](TopSort sort) { return names(top_rows(now, &before, {sort, false, ""})); };
  EXPECT_EQ(by(TopSort::kLive), (Names{"/cache/blocks", "/net", "/cache/Index", "/"}));
  EXPECT_EQ(by(TopSort::kFootprint), (Names{"/cache/blocks", "/net", "/cache/Index", "/"}));
  EXPECT_EQ(by(TopSort::kGrowth), (Names{"/net", "/cache/Index", "/", "/cache/blocks"}));
  EXPECT_EQ(by(TopSort::kAllocs), (Names{"/cache/blocks", "/net", "/cache/Index", "/"}));
  EXPECT_EQ(by(TopSort::kName), (Names{"/", "/cache/Index", "/cache/blocks", "/net"}));
}

TEST_F(TopRows, OfATreeAreBelowEachOtherAndWithAllBelow) {
  const Record before = read(1);
  const Record now = read_later();
  const auto rows = top_rows(now, &before, {TopSort::kGrowth, true, ""});
  EXPECT_EQ(names(rows), (Names{"/", "  net", "  cache", "    Index", "    blocks"}));
  EXPECT_DOUBLE_EQ(rows[0].growth.value(), -double(kMiB) / 2);
  EXPECT_DOUBLE_EQ(rows[0].allocs.value(), 2550);
  EXPECT_DOUBLE_EQ(rows[2].growth.value(), -double(kMiB));
  EXPECT_EQ(rows[2].history.size(), 3u);
  EXPECT_EQ(rows[3].history, (std::vector<uint32_t>{file_.tags[3].name}));
}

TEST_F(TopRows, HaveRatesIfThereIsAFrameBefore) {
  const Record before = read(1);
  const Record now = read_later();
  EXPECT_FALSE(top_rows(now, nullptr, {})[0].growth.has_value());
  EXPECT_FALSE(top_rows(before, &now, {})[0].growth.has_value());  // not one before
  const auto rows = top_rows(now, &before, {});
  EXPECT_DOUBLE_EQ(rows[0].growth.value(), -double(kMiB));
  EXPECT_DOUBLE_EQ(rows[1].allocs.value(), 50);
  // One that is new had nothing.
  file_.add_tag("/new", 6 * kMiB, 6 * kMiB);
  const Record later = read_later();
  for (const TopRow& row : top_rows(later, &now, {})) {
    if (row.name == "/new") {
      EXPECT_DOUBLE_EQ(row.growth.value(), 3.0 * kMiB);
    }
  }
}

TEST_F(TopRows, AreThoseThatTheFilterIsAPartOf) {
  const Record now = read(1);
  EXPECT_EQ(names(top_rows(now, nullptr, {TopSort::kName, false, "INDEX"})),
            (Names{"/cache/Index"}));
  EXPECT_EQ(names(top_rows(now, nullptr, {TopSort::kName, true, "index"})),
            (Names{"/", "  cache", "    Index"}));
  EXPECT_TRUE(top_rows(now, nullptr, {TopSort::kName, false, "none"}).empty());
}

TEST_F(TopRows, ShowAnEmptyTagIfItHasALimit) {
  file_.tags[5].hard_limit = kMiB;
  const Record now = read(1);
  EXPECT_EQ(names(top_rows(now, nullptr, {TopSort::kName, false, "empty"})), (Names{"/empty"}));
}

TEST(TopLimits, AreColouredAsTheyComeNear) {
  record::TagRow tag = {};
  tag.soft_limit = tag.hard_limit = TALLY_LIMIT_NONE;
  EXPECT_FALSE(limit_of(tag).has_value());
  auto style = [&tag](uint64_t held, uint32_t pressure) {
    tag.total.footprint_bytes = held;
    tag.pressure = pressure;
    return limit_of(tag)->style;
  };
  tag.soft_limit = 100;
  EXPECT_EQ(style(79, 0), Style::kNone);
  EXPECT_EQ(style(80, 0), Style::kYellow);
  EXPECT_EQ(style(200, 0), Style::kYellow);
  tag.hard_limit = 1000;
  EXPECT_EQ(limit_of(tag)->limit, 1000u);
  EXPECT_EQ(style(200, TALLY_PRESSURE_SOFT), Style::kYellow);
  EXPECT_EQ(style(949, 0), Style::kYellow);
  EXPECT_EQ(style(950, 0), Style::kRed);
  EXPECT_EQ(style(1, TALLY_PRESSURE_HARD), Style::kRed);
  tag.hard_limit = 0;
  EXPECT_EQ(style(0, 0), Style::kRed);
}

std::string heads(const std::vector<TopPlace>& places) {
  std::string list;
  for (const TopPlace& place : places) list += std::string(head_of(place.column)) + " ";
  return list;
}
size_t width(const std::vector<TopPlace>& places) {
  size_t sum = places.size() - 1;
  for (const TopPlace& place : places) sum += place.width;
  return sum;
}

TEST_F(TopRows, HaveTheColumnsThatThereIsRoomFor) {
  file_.tags[2].hard_limit = 100 * kMiB;
  const Record now = read(1);
  const auto rows = top_rows(now, nullptr, {});
  EXPECT_EQ(heads(top_columns(rows, false, 80)),
            "TAG LIVE FOOTPR. ALLOCS/S GROWTH/S LIMIT HISTORY ");
  EXPECT_EQ(heads(top_columns(rows, true, 80)),
            "TAG LIVE+ FOOTPR.+ ALLOCS/S GROWTH/S LIMIT HISTORY ");
  EXPECT_EQ(heads(top_columns(rows, false, 200)),
            "TAG LIVE LIVE+ FOOTPR. FOOTPR.+ BLOCKS ALLOCS/S GROWTH/S LIMIT HISTORY ");
  EXPECT_EQ(heads(top_columns(rows, false, 40)), "TAG LIVE FOOTPR. ");
  EXPECT_EQ(heads(top_columns(rows, false, 5)), "");
  for (size_t most = 20; most < 300; ++most) {
    EXPECT_LE(width(top_columns(rows, false, most)), most);
  }
  file_.tags[2].hard_limit = TALLY_LIMIT_NONE;
  const Record without = read(2);
  EXPECT_EQ(heads(top_columns(top_rows(without, nullptr, {}), false, 80)),
            "TAG LIVE LIVE+ FOOTPR. ALLOCS/S GROWTH/S HISTORY ");
}

TEST_F(TopRows, HaveCells) {
  file_.tags[2].hard_limit = 100 * kMiB;
  const Record before = read(1);
  const Record now = read_later();
  const TopRow row = top_rows(now, &before, {})[0];
  const History none;
  auto cell = [&](TopColumn column) { return top_cell(row, column, none, Bars::kDigits); };
  EXPECT_EQ(cell(TopColumn::kTag), "/cache/blocks");
  EXPECT_EQ(cell(TopColumn::kLive), "62.0 MiB");
  EXPECT_EQ(cell(TopColumn::kFootprint), "90.0 MiB");
  EXPECT_EQ(cell(TopColumn::kBlocks), "1.05M");
  EXPECT_EQ(cell(TopColumn::kAllocs), "2.50k");
  EXPECT_EQ(cell(TopColumn::kGrowth), "-1.00 MiB");
  EXPECT_EQ(cell(TopColumn::kLimit), "90 %");
  EXPECT_EQ(cell(TopColumn::kHistory), "");
  EXPECT_EQ(top_cell(top_rows(now, nullptr, {})[1], TopColumn::kAllocs, none, Bars::kDigits), "-");
}

TEST(FormatCount, HasFiveCharacters) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999.4), "999");
  EXPECT_EQ(format_count(999.6), "1.00k");
  EXPECT_EQ(format_count(31'415), "31.4k");
  EXPECT_EQ(format_count(-99'960), "-100k");
  EXPECT_EQ(format_count(1e17), "100P");
  EXPECT_EQ(format_count(1e30), "many");
}

std::vector<record::Point> points(std::initializer_list<std::pair<int64_t, uint32_t>> values) {
  std::vector<record::Point> all;
  for (auto [time, kib] : values) {
    record::Point point = {};
    point.time = time * 1'000'000'000;
    point.live = uint64_t{kib} * 2048;
    point.tag_count = kib == 0 ? 0 : 2;
    point.tags[0] = {7, kib, kib};
    point.tags[1] = {9, 1, 1};
    all.push_back(point);
  }
  return all;
}

TEST(Histories, AreAsManyStepsAsThereArePointsOrLess) {
  const auto all = points({{0, 1}, {1, 2}, {2, 0}, {3, 4}, {4, 5}, {5, 6}, {6, 7}});
  const History each(all, 10);
  EXPECT_EQ(each.steps(), 7u);
  EXPECT_EQ(each.span_ns(), 6'000'000'000u);
  EXPECT_EQ(each.process().back(), 7u * 2048);
  using Values = std::vector<uint64_t>;
  const uint32_t tags[] = {7, 9, 8};
  EXPECT_EQ(each.of(std::span(tags).first(1)),
            (Values{1024, 2048, 0, 4096, 5 * 1024, 6 * 1024, 7 * 1024}));
  // Each as it was at the end of its two seconds.
  EXPECT_EQ(History(all, 3).of(std::span(tags).first(1)), (Values{0, 5 * 1024, 7 * 1024}));
  EXPECT_EQ(History(all, 3).of(tags), (Values{0, 6 * 1024, 8 * 1024}));
  EXPECT_EQ(History({}, 3).steps(), 0u);
  EXPECT_EQ(History(all, 0).steps(), 0u);
}

TEST(Histories, GoByTimeUnlessTheClockWasSet) {
  auto all = points({{0, 1}, {90, 2}, {91, 3}, {92, 4}, {100, 5}});
  using Values = std::vector<uint64_t>;
  const uint32_t tag[] = {7};
  EXPECT_EQ(History(all, 4).of(tag), (Values{1024, 1024, 1024, 5 * 1024}));
  all[4].time = 0;
  EXPECT_EQ(History(all, 4).of(tag), (Values{1024, 2048, 3072, 5 * 1024}));
  all[0].time = INT64_MIN;
  all[4].time = INT64_MAX;
  EXPECT_EQ(History(all, 4).span_ns(), 0u);
}

TEST_F(TopRows, AWatchHasRatesAtOnceAndKeepsTheFrameBefore) {
  std::string all = file_.bytes(1);
  file_.frame.uptime += 1'000'000'000;
  file_.tags[2].own.live_bytes += kMiB;
  RecordFile::put(&all, record::kAtFrame[0], file_.frame_bytes(2));
  RecordFile::write(path_, all);
  Watch watch{Reader(path_)};
  ASSERT_NE(watch.before(), nullptr);
  EXPECT_EQ(watch.before()->frame_head().seal.sequence, 1u);
  auto growth = [&watch] { return top_rows(watch.now(), watch.before(), {})[0].growth; };
  EXPECT_DOUBLE_EQ(growth().value(), double(kMiB));
  // The same again: nothing is lost.
  watch.refresh();
  EXPECT_DOUBLE_EQ(growth().value(), double(kMiB));
  file_.frame.uptime += 1'000'000'000;
  RecordFile::put(&all, record::kAtFrame[1], file_.frame_bytes(3));
  RecordFile::write(path_, all);
  watch.refresh();
  EXPECT_EQ(watch.before()->frame_head().seal.sequence, 2u);
  EXPECT_DOUBLE_EQ(growth().value(), 0);
  EXPECT_EQ(watch.summary().second,
            "RSS 0 B, live 78.0 MiB, footprint 105 MiB, fragmentation 1.35");
}

TEST_F(TopRows, AWatchDoesWithoutAFrameBefore) {
  RecordFile::write(path_, file_.bytes(1));
  EXPECT_EQ(Watch(Reader(path_)).before(), nullptr);
  std::string all = file_.bytes(1);
  RecordFile::put(&all, record::kAtFrame[0], file_.frame_bytes(2));
  all[record::kAtFrame[1] + 50] ^= 1;  // it is being written over
  RecordFile::write(path_, all);
  EXPECT_EQ(Watch(Reader(path_)).before(), nullptr);
}

}  // namespace
}  // namespace tally::tool
