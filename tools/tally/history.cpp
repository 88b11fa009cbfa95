#include "history.h"

#include <algorithm>

namespace tally::tool {
namespace {

using Points = std::span<const record::Point>;

// The clock may have been set meanwhile: then by their order alone.
bool has_times(Points points) {
  return std::is_sorted(points.begin(), points.end(),
                        [](const auto& one, const auto& other) { return one.time < other.time; });
}

std::vector<const record::Point*> sample(Points points, size_t steps) {
  std::vector<const record::Point*> samples;
  if (points.size() <= steps) {
    for (const record::Point& point : points) samples.push_back(&point);
    return samples;
  }
  const bool by_time = has_times(points);
  const double first = double(points.front().time);
  const double span = double(points.back().time) - first;
  size_t at = 0;
  for (size_t step = 1; step <= steps; ++step) {
    const double part = double(step) / double(steps);
    if (by_time) {
      while (at + 1 < points.size() && double(points[at + 1].time) <= first + span * part) ++at;
    } else {
      at = size_t(double(points.size()) * part) - 1;
    }
    samples.push_back(&points[step == steps ? points.size() - 1 : at]);
  }
  return samples;
}

}  // namespace

History::History(Points points, size_t steps) {
  if (points.empty() || steps == 0) return;
  const double span = double(points.back().time) - double(points.front().time);
  constexpr double kMost = 1e18;  // whatever the file says
  span_ns_ = span > 0 && span < kMost ? uint64_t(span) : 0;
  const std::vector<const record::Point*> samples = sample(points, steps);
  for (size_t i = 0; i < samples.size(); ++i) {
    process_.push_back(samples[i]->live);
    for (uint32_t tag = 0; tag < samples[i]->tag_count; ++tag) {
      const record::PointTag& from = samples[i]->tags[tag];
      std::vector<uint64_t>& values = tags_[from.name];
      values.resize(samples.size());
      values[i] = uint64_t{from.live_kib} * 1024;
    }
  }
}

std::vector<uint64_t> History::of(std::span<const uint32_t> names) const {
  std::vector<uint64_t> sum(steps());
  for (uint32_t name : names) {
    auto at = tags_.find(name);
    if (at == tags_.end()) continue;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += at->second[i];
  }
  return sum;
}

}  // namespace tally::tool
