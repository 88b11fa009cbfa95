// What tally top shows, apart from where it shows it: rows of tags, in an order, in columns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bars.h"
#include "history.h"
#include "record.h"
#include "text.h"

namespace tally::tool {

enum class TopSort { kLive, kFootprint, kGrowth, kAllocs, kName };
inline constexpr const char* kTopSorts[] = {"live", "footprint", "growth", "allocs", "name"};

struct TopView {
  TopSort sort = TopSort::kLive;
  bool is_tree = false;
  std::string filter;  // part of the path, in whatever case
};

struct TopRow {
  std::string name;           // path; in a tree what it has beyond the row above it, indented
  const record::TagRow* tag;  // in the record
  // A second, of live bytes and of allocations: in a tree with all below, else its own. None: there
  // is nothing to compare with.
  std::optional<double> growth, allocs;
  std::vector<uint32_t> history;  // whose it is: names of its own, in a tree of all below too
};

// Tags that hold something or have a limit. `before` is an earlier frame of the same process, or
// nullptr. Points into `now`.
std::vector<TopRow> top_rows(const Record& now, const Record* before, const TopView& view);

// How near to its limit a tag is: the hard one, else the soft one.
struct Limit {
  uint64_t held, limit;
  Style
      style;  // red: at the hard limit, or nearly; yellow: at the soft limit, or towards the other
};
std::optional<Limit> limit_of(const record::TagRow& tag);

enum class TopColumn {
  kTag,
  kLive,
  kTotalLive,
  kFootprint,
  kTotalFootprint,
  kBlocks,
  kAllocs,
  kGrowth,
  kLimit,
  kHistory
};
struct TopPlace {
  TopColumn column;
  size_t width;
};
const char* head_of(TopColumn column);

// The columns that there is room for, from left to right; that of limits if there are any. In a
// tree what is with all below goes before a tag's own.
std::vector<TopPlace> top_columns(const std::vector<TopRow>& rows, bool is_tree, size_t width);

std::string top_cell(const TopRow& row, TopColumn column, const History& history, Bars kind);

// "999", "1.20k", "31.4M": at most five characters.
std::string format_count(double count);

}  // namespace tally::tool
