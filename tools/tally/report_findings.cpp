// What is most worth a look in a report, in words. Thresholds are meant to keep quiet of what is
// normal.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "fragmentation.h"
#include "report_parts.h"
#include "summary.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr size_t kMost = 6;
// A program that has only just started grows.
constexpr uint64_t kStart = 30'000'000'000;

using Findings = std::vector<Finding>;
using Level = Finding::Level;

std::string quoted(std::string_view path) { return shortened(printable(path), 80); }

uint64_t between(int64_t now, int64_t then) {
  return then < now && then >= 0 ? static_cast<uint64_t>(now - then) : 0;
}

void add_limits(const ReportSource& source, Findings& all) {
  for (const record::TagRow& tag : source.record.tags()) {
    const std::string name = quoted(source.record.name(tag));
    const uint64_t held = tag.total.footprint_bytes;
    if (tag.refused_count != 0 || tag.waited_count != 0) {
      const bool waits = tag.refused_count == 0;
      all.push_back(
          {waits ? Level::kWarn : Level::kBad, "time",
           name +
               (waits ? " made threads wait at its limit " : " refused allocations at its limit ") +
               std::to_string(waits ? tag.waited_count : tag.refused_count) + " times; it holds " +
               format_bytes(held) +
               (tag.hard_limit == TALLY_LIMIT_NONE ? "" : " of " + format_bytes(tag.hard_limit)) +
               "."});
    } else if (tag.hard_limit != TALLY_LIMIT_NONE && held / 10 >= tag.hard_limit / 10 / 10 * 9) {
      all.push_back({Level::kWarn, "tags",
                     name + " holds " + format_bytes(held) + ", " +
                         format_share(held, tag.hard_limit) + " of its limit."});
    } else if (tag.pressure != TALLY_PRESSURE_NORMAL && tag.soft_limit != TALLY_LIMIT_NONE) {
      all.push_back({Level::kWarn, "tags",
                     name + " holds " + format_bytes(held) + " and is above its soft limit of " +
                         format_bytes(tag.soft_limit) + "."});
    }
  }
}

uint64_t live_at(const record::Point& point, uint32_t name) {
  for (uint32_t i = 0; i < point.tag_count; ++i) {
    if (point.tags[i].name == name) return uint64_t{point.tags[i].live_kib} * 1024;
  }
  return 0;
}

// The least that the tag held in a part of the points. What comes and goes falls back to it, what
// leaks does not.
uint64_t least(std::span<const record::Point> points, uint32_t name) {
  uint64_t held = ~uint64_t{0};
  for (const record::Point& point : points) held = std::min(held, live_at(point, name));
  return held;
}

// The tag whose least grew most from the third quarter of the points to the last: since then the
// program ran as it does now.
void add_growing_tag(const ReportSource& source, Findings& all) {
  const size_t quarter = source.points.size() / 4;
  if (quarter == 0) return;
  if (between(source.points.back().time, source.points.front().time) < kStart) return;
  const std::span<const record::Point> last = source.points.last(quarter);
  const std::span<const record::Point> before =
      source.points.subspan(source.points.size() - 2 * quarter, quarter);
  uint64_t most = 0;
  uint32_t who = 0;
  for (uint32_t i = 0; i < last.back().tag_count; ++i) {
    const uint32_t name = last.back().tags[i].name;
    const uint64_t then = least(before, name), now = least(last, name);
    if (now <= then || now - then <= most) continue;
    most = now - then;
    who = name;
  }
  if (most < kMiB || most < last.back().footprint / 50) return;
  all.push_back({Level::kWarn, "time",
                 quoted(source.record.name(who)) + " grows: by " + format_bytes(most) +
                     " and more in the last " +
                     format_duration(between(last.back().time, before.back().time)) + "."});
}

// "Cache::fill" of "Cache::fill(int)".
std::string without_parameters(const std::string& function) {
  int depth = 0;
  for (size_t i = 1; i < function.size(); ++i) {
    if (function[i] == '<') ++depth;
    if (function[i] == '>') --depth;
    const std::string_view rest = std::string_view(function).substr(i);
    const bool is_name = rest.starts_with("(anonymous namespace)") || rest.starts_with("()(");
    if (rest[0] == '(' && depth == 0 && !is_name) return function.substr(0, i);
    if (rest.starts_with("()(")) ++i;  // of operator()
  }
  return function;
}

std::string place_of(const Frame& frame) {
  std::string text = shortened(printable(without_parameters(frame.function)), 80);
  if (frame.file.empty()) return text;
  return text + " (" + printable(frame.file.substr(frame.file.rfind('/') + 1)) + ":" +
         std::to_string(frame.line) + ")";
}

// "Cache::fill (cache.cpp:12), called by serve (server.cpp:3),": the innermost frame that is none
// of the C++ library's; with its caller, as it may be a malloc by another name.
std::string place_of(Symbols& symbols, uint32_t call) {
  const Frame* found = nullptr;
  for (uint32_t at : symbols.stack_of(call)) {
    for (const Frame& frame : symbols.frames_of(at)) {
      if (found != nullptr && !is_cxx_librarys(*found)) {
        return place_of(*found) + ", called by " + place_of(frame) + ",";
      }
      found = &frame;
    }
  }
  return place_of(*found);
}

int64_t growth_of(const record::Site& site) {
  return static_cast<int64_t>(site.live.bytes - site.mark.bytes);
}

void add_growing_stack(const ReportSource& source, Findings& all) {
  const Profile& profile = source.profile;
  if (!profile.is_on() || profile.sites.empty()) return;
  if (between(profile.head.time, profile.head.begun) < kStart) return;
  const record::Site& site =
      *std::max_element(profile.sites.begin(), profile.sites.end(),
                        [](const record::Site& one, const record::Site& other) {
                          return growth_of(one) < growth_of(other);
                        });
  const int64_t growth = growth_of(site);
  // What one or two samples tell is no growth.
  const uint64_t least = std::max(kMiB, 4 * profile.head.rate);
  if (growth < 0 || static_cast<uint64_t>(growth) < least) return;
  if (static_cast<uint64_t>(growth) < source.record.ledger().live / 20) return;
  all.push_back({Level::kWarn, "stacks",
                 "What grows most is allocated by " + place_of(source.symbols, site.call) +
                     " under " + quoted(profile.name(site.tag)) + ": it holds " +
                     format_bytes(static_cast<uint64_t>(growth)) + " more than " +
                     format_duration(between(profile.head.time, profile.head.mark_time)) +
                     " before."});
}

void add_fragmentation(const ReportSource& source, Findings& all) {
  const Fragmentation frag = fragmentation_of(source.record);
  char ratio[32];
  snprintf(ratio, sizeof ratio, "%.2f", frag.ratio());
  const std::string head = std::string("Fragmentation is ") + ratio + ": " +
                           format_bytes(frag.free) + " are free in slabs. ";
  if (frag.ratio() > 1.3 && frag.free > 8 * kMiB) {
    all.push_back({Level::kWarn, "fragmentation", head + "What to do: " + advice_on(frag)});
  } else if (frag.held.live != 0) {
    all.push_back({Level::kGood, "fragmentation", head + "That is little."});
  }
}

void add_largest_tag(const ReportSource& source, Findings& all) {
  const record::TagRow* largest = nullptr;
  for (const record::TagRow& tag : source.record.tags()) {
    if (largest == nullptr || tag.own.footprint_bytes > largest->own.footprint_bytes)
      largest = &tag;
  }
  if (largest == nullptr || largest->own.footprint_bytes == 0) return;
  all.push_back(
      {Level::kNote, "tags",
       quoted(source.record.name(*largest)) +
           " holds most: " + format_bytes(largest->own.live_bytes) + " live, " +
           format_share(largest->own.footprint_bytes, totals(source.record).footprint_bytes) +
           " of the footprint."});
}

void add_rest(const ReportSource& source, Findings& all) {
  const record::Ledger& ledger = source.record.ledger();
  const uint64_t footprint = totals(source.record).footprint_bytes;
  if (footprint < ledger.rss / 2) {
    all.push_back({Level::kNote, "ledger",
                   "Most of RSS is not this heap's: " + format_bytes(footprint) + " of " +
                       format_bytes(ledger.rss) +
                       " is. The rest is files, stacks and mappings of "
                       "the program's own."});
  }
  const uint64_t foreign = source.record.frame_head().foreign_frees;
  if (foreign != 0) {
    all.push_back(
        {Level::kWarn, "ledger",
         std::to_string(foreign) + " blocks were freed that another allocator had made."});
  }
  if (!source.profile.is_on()) {
    all.push_back({Level::kNote, "stacks",
                   "Which code allocated is not known: the record has no profile of stacks."});
  }
}

}  // namespace

std::vector<Finding> findings_of(const ReportSource& source) {
  Findings all;
  add_limits(source, all);
  add_growing_stack(source, all);
  add_growing_tag(source, all);
  add_fragmentation(source, all);
  add_largest_tag(source, all);
  add_rest(source, all);
  std::stable_sort(all.begin(), all.end(), [](const Finding& one, const Finding& other) {
    return one.level < other.level;
  });
  if (all.size() > kMost) all.resize(kMost);
  if (all.empty()) all.push_back({Level::kNote, "ledger", "The heap holds nothing."});
  return all;
}

}  // namespace tally::tool
