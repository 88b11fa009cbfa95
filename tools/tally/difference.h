// What changed between two records: by tag, and by tag and size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fragmentation.h"
#include "record.h"

namespace tally::tool {

struct Change {
  uint64_t before = 0;
  uint64_t after = 0;
  int64_t grew() const { return static_cast<int64_t>(after - before); }
  bool is_none() const { return before == after; }
};

enum class Fate { kStayed, kNew, kGone };

struct TagChange {
  std::string tag;  // path, printable
  Fate fate = Fate::kStayed;
  Change live, footprint, blocks, allocs;  // of its own
  Change total_live, total_footprint;      // with all below
  bool is_none() const;
};

struct ClassChange {
  std::string tag;
  uint32_t block_size = 0;
  Fate fate = Fate::kStayed;
  Change live, footprint, blocks, slabs;
  bool is_none() const;
};

enum class Order { kGrowth, kName };  // growth of live bytes, then of the footprint; most first

struct Difference {
  // Between the two. None: `after` is not the later one.
  std::optional<double> seconds;
  bool is_same_process = false;
  Change rss, live, footprint;
  std::vector<TagChange> tags;  // those that changed
  std::vector<ClassChange> classes;
};
Difference difference(const Record& before, const Record& after, Order order);

// "+1.50 MiB", "-64 B", "0 B".
std::string format_change(int64_t bytes);
// Likewise of counts.
std::string format_change_of_count(int64_t count);

}  // namespace tally::tool
