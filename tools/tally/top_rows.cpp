#include "top_rows.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <unordered_map>

#include "difference.h"
#include "tag_tree.h"

namespace tally::tool {
namespace {

using record::TagRow;

// What a tag has, and what changed since the frame before.
class Figures {
 public:
  Figures(const Record& now, const Record* before, bool is_tree) : now_(now), is_tree_(is_tree) {
    if (before == nullptr) return;
    const uint64_t from = before->frame_head().uptime, to = now.frame_head().uptime;
    if (from >= to) return;
    seconds_ = double(to - from) / 1e9;
    for (const TagRow& tag : before->tags()) before_.emplace(tag.name, &tag);
  }

  const tally_counts& of(const TagRow& tag) const { return is_tree_ ? tag.total : tag.own; }
  std::optional<double> growth(const TagRow& tag) const {
    return rate(tag, &tally_counts::live_bytes);
  }
  std::optional<double> allocs(const TagRow& tag) const {
    return rate(tag, &tally_counts::alloc_count);
  }
  bool is_shown(const TagRow& tag) const {
    return of(tag).footprint_bytes != 0 || limit_of(tag).has_value();
  }

  TagOrder order(TopSort sort) const {
    switch (sort) {
      case TopSort::kLive:
        return by([this](const TagRow& tag) { return double(of(tag).live_bytes); });
      case TopSort::kFootprint:
        return by([this](const TagRow& tag) { return double(of(tag).footprint_bytes); });
      case TopSort::kGrowth:
        return by([this](const TagRow& tag) { return growth(tag).value_or(0); });
      case TopSort::kAllocs:
        return by([this](const TagRow& tag) { return allocs(tag).value_or(0); });
      case TopSort::kName:
        break;
    }
    return [this](const TagRow& one, const TagRow& other) {
      return now_.name(one) < now_.name(other);
    };
  }

 private:
  template <class Value>
  TagOrder by(Value value) const {
    return [this, value](const TagRow& one, const TagRow& other) {
      const double left = value(one), right = value(other);
      return left != right ? left > right : of(one).live_bytes > of(other).live_bytes;
    };
  }

  // Names are appended and never changed: what is at an offset is the same tag's. One that is new
  // had nothing.
  std::optional<double> rate(const TagRow& tag, uint64_t tally_counts::*count) const {
    if (!seconds_) return std::nullopt;
    auto at = before_.find(tag.name);
    const uint64_t had = at == before_.end() ? 0 : of(*at->second).*count;
    return double(static_cast<int64_t>(of(tag).*count - had)) / *seconds_;
  }

  const Record& now_;
  bool is_tree_;
  std::optional<double> seconds_;
  std::unordered_map<uint32_t, const TagRow*> before_;
};

bool is_match(std::string_view path, const std::string& filter) {
  auto is_same = [](char one, char other) {
    return tolower(static_cast<unsigned char>(one)) == tolower(static_cast<unsigned char>(other));
  };
  return std::search(path.begin(), path.end(), filter.begin(), filter.end(), is_same) !=
             path.end() ||
         filter.empty();
}

std::vector<TopRow> flat_rows(const Record& now, const Figures& figures, const TopView& view) {
  std::vector<const TagRow*> tags;
  for (const TagRow& tag : now.tags()) {
    if (figures.is_shown(tag) && is_match(now.name(tag), view.filter)) tags.push_back(&tag);
  }
  const TagOrder order = figures.order(view.sort);
  std::sort(tags.begin(), tags.end(), [&](const TagRow* one, const TagRow* other) {
    if (order(*one, *other)) return true;
    return !order(*other, *one) && now.name(*one) < now.name(*other);
  });
  std::vector<TopRow> rows;
  rows.reserve(tags.size());
  for (const TagRow* tag : tags) {
    rows.push_back({printable(now.name(*tag)), tag, figures.growth(*tag), figures.allocs(*tag),
                    std::vector<uint32_t>{tag->name}});
  }
  return rows;
}

// A row stays if it or one below it is wanted.
std::vector<TopRow> tree_rows(const Record& now, const Figures& figures, const TopView& view) {
  const std::vector<TagNode> nodes = tag_tree(now, figures.order(view.sort));
  std::vector<TopRow> rows;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const TagRow& tag = *nodes[i].tag;
    size_t end = i + 1;  // of those below it
    while (end < nodes.size() && nodes[end].depth > nodes[i].depth) ++end;
    bool is_wanted =
        std::any_of(nodes.begin() + long(i), nodes.begin() + long(end),
                    [&](const TagNode& node) { return is_match(node.path, view.filter); });
    if (!is_wanted || !figures.is_shown(tag)) continue;
    TopRow row = {std::string(2 * size_t{nodes[i].depth}, ' ') + printable(nodes[i].label),
                  &tag,
                  figures.growth(tag),
                  figures.allocs(tag),
                  {}};
    for (size_t below = i; below < end; ++below) row.history.push_back(nodes[below].tag->name);
    rows.push_back(std::move(row));
  }
  return rows;
}

struct ColumnKind {
  TopColumn column;
  const char* head;
  size_t width;
  // Of two that there is no room for both the lower one goes.
  int rank, rank_in_tree;
};
constexpr size_t kNameLeast = 20, kHistoryLeast = 10, kHistoryMost = 60;
// In the order in which they are shown.
constexpr ColumnKind kColumns[] = {
    {TopColumn::kTag, "TAG", kNameLeast, 9, 9},
    {TopColumn::kLive, "LIVE", 8, 8, 2},
    {TopColumn::kTotalLive, "LIVE+", 8, 2, 8},
    {TopColumn::kFootprint, "FOOTPR.", 8, 7, 1},
    {TopColumn::kTotalFootprint, "FOOTPR.+", 8, 1, 7},
    {TopColumn::kBlocks, "BLOCKS", 6, 0, 0},
    {TopColumn::kAllocs, "ALLOCS/S", 8, 3, 3},
    {TopColumn::kGrowth, "GROWTH/S", 9, 6, 6},
    {TopColumn::kLimit, "LIMIT", 6, 5, 5},
    {TopColumn::kHistory, "HISTORY", kHistoryLeast, 4, 4},
};
constexpr size_t kBetween = 1;

const ColumnKind& kind_of(TopColumn column) { return kColumns[size_t(column)]; }

}  // namespace

std::vector<TopRow> top_rows(const Record& now, const Record* before, const TopView& view) {
  const Figures figures(now, before, view.is_tree);
  return view.is_tree ? tree_rows(now, figures, view) : flat_rows(now, figures, view);
}

std::optional<Limit> limit_of(const TagRow& tag) {
  const bool is_hard = tag.hard_limit != TALLY_LIMIT_NONE;
  const uint64_t limit = is_hard ? tag.hard_limit : tag.soft_limit;
  if (limit == TALLY_LIMIT_NONE) return std::nullopt;
  const double part = limit == 0 ? 1 : double(tag.total.footprint_bytes) / double(limit);
  constexpr double kNear = 0.8, kNearly = 0.95;
  Style style = Style::kNone;
  if (tag.pressure >= TALLY_PRESSURE_SOFT || part >= kNear) style = Style::kYellow;
  if (tag.pressure >= TALLY_PRESSURE_HARD || (is_hard && part >= kNearly)) style = Style::kRed;
  return Limit{tag.total.footprint_bytes, limit, style};
}

const char* head_of(TopColumn column) { return kind_of(column).head; }

std::vector<TopPlace> top_columns(const std::vector<TopRow>& rows, bool is_tree, size_t width) {
  size_t widest = kNameLeast;
  bool has_limits = false;
  for (const TopRow& row : rows) {
    widest = std::max(widest, width_of(row.name));
    has_limits |= limit_of(*row.tag).has_value();
  }
  std::vector<const ColumnKind*> by_rank;
  for (const ColumnKind& kind : kColumns) {
    if (kind.column != TopColumn::kLimit || has_limits) by_rank.push_back(&kind);
  }
  const auto rank = is_tree ? &ColumnKind::rank_in_tree : &ColumnKind::rank;
  std::sort(by_rank.begin(), by_rank.end(), [rank](const ColumnKind* one, const ColumnKind* other) {
    return one->*rank > other->*rank;
  });
  std::vector<TopPlace> places;
  size_t left = width;
  for (const ColumnKind* kind : by_rank) {
    const size_t needed = kind->width + (places.empty() ? 0 : kBetween);
    if (needed > left) break;
    left -= needed;
    places.push_back({kind->column, kind->width});
  }
  std::sort(places.begin(), places.end(),
            [](const TopPlace& one, const TopPlace& other) { return one.column < other.column; });
  for (TopPlace& place : places) {
    const size_t most = place.column == TopColumn::kTag       ? widest
                        : place.column == TopColumn::kHistory ? kHistoryMost
                                                              : place.width;
    const size_t more = std::min(left, most - place.width);
    place.width += more;
    left -= more;
  }
  return places;
}

std::string top_cell(const TopRow& row, TopColumn column, const History& history, Bars kind) {
  const TagRow& tag = *row.tag;
  switch (column) {
    case TopColumn::kTag:
      return row.name;
    case TopColumn::kLive:
      return format_bytes(tag.own.live_bytes);
    case TopColumn::kTotalLive:
      return format_bytes(tag.total.live_bytes);
    case TopColumn::kFootprint:
      return format_bytes(tag.own.footprint_bytes);
    case TopColumn::kTotalFootprint:
      return format_bytes(tag.total.footprint_bytes);
    case TopColumn::kBlocks:
      return format_count(double(tag.own.live_blocks));
    case TopColumn::kAllocs:
      return row.allocs ? format_count(*row.allocs) : "-";
    case TopColumn::kGrowth:
      return row.growth ? format_change(std::llround(*row.growth)) : "-";
    case TopColumn::kLimit: {
      const std::optional<Limit> limit = limit_of(tag);
      if (!limit) return "";
      if (limit->limit == 0) return "none";
      const double percent = std::min(999.0, 100 * double(limit->held) / double(limit->limit));
      return std::to_string(int(percent)) + " %";
    }
    case TopColumn::kHistory: {
      const std::vector<uint64_t> values = history.of(row.history);
      return values.empty() ? ""
                            : bars(values, *std::max_element(values.begin(), values.end()), kind);
    }
  }
  return "";
}

std::string format_count(double count) {
  if (!(std::abs(count) < 1e18)) return count > 0 ? "many" : "-";
  if (std::abs(count) < 999.5) return std::to_string(std::lround(count));
  const char* unit = "kMGTP";
  double scaled = count / 1000;
  while (std::abs(scaled) >= 999.5 && unit[1] != 0) {
    scaled /= 1000;
    ++unit;
  }
  const int digits = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
  char text[32];
  snprintf(text, sizeof text, "%.*f%c", digits, scaled, *unit);
  return text;
}

}  // namespace tally::tool
