// What tags held over the last minutes, from the points of a record.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "record/layout.h"

namespace tally::tool {

class History {
 public:
  History() = default;
  // The points, oldest first, in at most `steps` steps of the same length; each as it was at the
  // end of its step.
  History(std::span<const record::Point> points, size_t steps);

  size_t steps() const { return process_.size(); }
  uint64_t span_ns() const { return span_ns_; }

  // Live bytes at each step, of the process.
  const std::vector<uint64_t>& process() const { return process_; }
  // Of tags, by the offsets of their names, together. Where a tag was not among the largest it
  // counts for nothing.
  std::vector<uint64_t> of(std::span<const uint32_t> names) const;

 private:
  uint64_t span_ns_ = 0;
  std::vector<uint64_t> process_;
  std::unordered_map<uint32_t, std::vector<uint64_t>> tags_;
};

}  // namespace tally::tool
