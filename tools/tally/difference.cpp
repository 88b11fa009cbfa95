#include "difference.h"

#include <algorithm>
#include <map>
#include <utility>

#include "text.h"

namespace tally::tool {
namespace {

// Which record a row comes from, as the half of each Change that it fills.
using Side = uint64_t Change::*;
constexpr Side kBefore = &Change::before;
constexpr Side kAfter = &Change::after;

// A row that only one side has is new or gone.
template <class Row>
Row& row_of(std::map<std::pair<std::string, uint32_t>, Row>* rows, const std::string& tag,
            uint32_t size, Side side) {
  auto [at, is_new] = rows->try_emplace({tag, size});
  Row& row = at->second;
  row.tag = tag;
  if (is_new) row.fate = side == kAfter ? Fate::kNew : Fate::kGone;
  if (!is_new && side == kAfter && row.fate == Fate::kGone) row.fate = Fate::kStayed;
  return row;
}

std::vector<TagChange> tag_changes(const Record& before, const Record& after) {
  std::map<std::pair<std::string, uint32_t>, TagChange> rows;
  auto put = [&rows](const Record& record, Side side) {
    for (const record::TagRow& tag : record.tags()) {
      TagChange& row = row_of(&rows, printable(record.name(tag)), 0, side);
      // A path may be there twice: retired and made anew.
      row.live.*side += tag.own.live_bytes;
      row.footprint.*side += tag.own.footprint_bytes;
      row.blocks.*side += tag.own.live_blocks;
      row.allocs.*side += tag.own.alloc_count;
      row.total_live.*side += tag.total.live_bytes;
      row.total_footprint.*side += tag.total.footprint_bytes;
    }
  };
  put(before, kBefore);
  put(after, kAfter);
  std::vector<TagChange> changes;
  for (auto& [key, row] : rows) {
    if (!row.is_none()) changes.push_back(std::move(row));
  }
  return changes;
}

std::vector<ClassChange> class_changes(const Record& before, const Record& after) {
  std::map<std::pair<std::string, uint32_t>, ClassChange> rows;
  auto put = [&rows](const Record& record, Side side) {
    const TagIndex index(record);
    for (const record::ClassRow& from : record.classes()) {
      const record::TagRow* tag = index.find(from.tag);
      ClassChange& row = row_of(&rows, tag == nullptr ? "(left out)" : printable(record.name(*tag)),
                                from.block_size, side);
      row.block_size = from.block_size;
      row.live.*side += from.live_blocks * from.block_size;
      row.footprint.*side += from.footprint;
      row.blocks.*side += from.live_blocks;
      row.slabs.*side += from.slabs;
    }
  };
  put(before, kBefore);
  put(after, kAfter);
  std::vector<ClassChange> changes;
  for (auto& [key, row] : rows) {
    if (!row.is_none()) changes.push_back(std::move(row));
  }
  return changes;
}

// They come sorted by name and size.
template <class Row>
void sort_by_growth(std::vector<Row>* rows) {
  std::stable_sort(rows->begin(), rows->end(), [](const Row& one, const Row& other) {
    if (one.live.grew() != other.live.grew()) return one.live.grew() > other.live.grew();
    return one.footprint.grew() > other.footprint.grew();
  });
}

std::optional<double> seconds_between(const Record& before, const Record& after, bool is_same) {
  const record::FrameHead& from = before.frame_head();
  const record::FrameHead& to = after.frame_head();
  // The clock on the wall may have been set meanwhile, the other not.
  const bool has_uptime = is_same && !before.is_dump && !after.is_dump;
  const double ns =
      has_uptime ? double(to.uptime) - double(from.uptime) : double(to.time) - double(from.time);
  constexpr double kMost = 1e18;  // whatever the files say
  return ns > 0 && ns < kMost ? std::optional(ns / 1e9) : std::nullopt;
}

bool is_same_process(const Record& before, const Record& after) {
  if (before.head.pid != after.head.pid) return false;
  return before.is_dump || after.is_dump || before.head.created == after.head.created;
}

}  // namespace

bool TagChange::is_none() const {
  return fate == Fate::kStayed && live.is_none() && footprint.is_none() && blocks.is_none() &&
         allocs.is_none() && total_live.is_none() && total_footprint.is_none();
}

bool ClassChange::is_none() const {
  return fate == Fate::kStayed && live.is_none() && footprint.is_none() && blocks.is_none() &&
         slabs.is_none();
}

Difference difference(const Record& before, const Record& after, Order order) {
  Difference all;
  all.is_same_process = is_same_process(before, after);
  all.seconds = seconds_between(before, after, all.is_same_process);
  const Held from = held(before), to = held(after);
  all.rss = {before.ledger().rss, after.ledger().rss};
  all.live = {from.live, to.live};
  all.footprint = {from.footprint, to.footprint};
  all.tags = tag_changes(before, after);
  all.classes = class_changes(before, after);
  if (order == Order::kGrowth) {
    sort_by_growth(&all.tags);
    sort_by_growth(&all.classes);
  }
  return all;
}

std::string format_change(int64_t bytes) {
  const uint64_t size = static_cast<uint64_t>(bytes);
  std::string text = bytes < 0 ? "-" : bytes > 0 ? "+" : "";
  return text += format_bytes(bytes < 0 ? -size : size);
}

std::string format_change_of_count(int64_t count) {
  std::string text = count > 0 ? "+" : "";
  return text += std::to_string(count);
}

}  // namespace tally::tool
