#include "profile_view.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace tally::tool {
namespace {

using record::Amount;
using record::Site;

Amount add(const Amount& one, const Amount& other) {
  return {one.objects + other.objects, one.bytes + other.bytes};
}

// What `one` has more than `other`; nothing where it has less.
Amount more(const Amount& one, const Amount& other) {
  return {one.objects - std::min(one.objects, other.objects),
          one.bytes - std::min(one.bytes, other.bytes)};
}

uint64_t freed_objects(const Site& site) {
  uint64_t sum = 0;
  for (uint64_t step : site.lifetimes) sum += step;
  return sum;
}

// Sites of an earlier profile: calls and names are only ever appended to.
class Earlier {
 public:
  explicit Earlier(const Profile* before) {
    if (before == nullptr) return;
    for (const Site& site : before->sites) sites_.emplace(std::pair(site.call, site.tag), &site);
  }
  Amount of(const Site& site, Amount Site::*amount) const {
    auto at = sites_.find({site.call, site.tag});
    return at == sites_.end() ? Amount() : at->second->*amount;
  }

 private:
  std::map<std::pair<uint32_t, uint32_t>, const Site*> sites_;
};

Amount amount_of(const Site& site, ViewKind kind, const Profile* before, const Earlier& earlier) {
  switch (kind) {
    case ViewKind::kAllocated:
      return more(site.allocated, earlier.of(site, &Site::allocated));
    case ViewKind::kPeak:
      return site.peak;
    case ViewKind::kGrowth:
      return more(site.live, before == nullptr ? site.mark : earlier.of(site, &Site::live));
    case ViewKind::kLifetimes:
      return {freed_objects(site), more(site.allocated, site.live).bytes};
    case ViewKind::kLive:
    case ViewKind::kStale:
      break;
  }
  return site.live;
}

// Of the samples that are older than that.
void sum_samples(const Profile& profile, uint64_t older_ns, std::vector<ViewRow>* rows) {
  struct Sum {
    double objects = 0, bytes = 0;
  };
  std::vector<Sum> sums(rows->size());
  for (const record::Sample& sample : profile.samples) {
    if (older_ns != 0 && age_at(profile.head.time, sample.time) <= older_ns) continue;
    const double weight = weight_of(sample.bytes, profile.head.rate);
    sums[sample.site].objects += weight;
    sums[sample.site].bytes += weight * static_cast<double>(sample.bytes);
    ++(*rows)[sample.site].samples;
  }
  if (older_ns == 0) return;  // the sites have the sums of all
  for (size_t i = 0; i < sums.size(); ++i) {
    (*rows)[i].amount = {rounded(sums[i].objects), rounded(sums[i].bytes)};
  }
}

}  // namespace

View view_of(const Profile& profile, const ViewOptions& options, const Profile* before) {
  View view;
  view.kind = options.kind;
  view.stale_ns = options.stale_ns;
  const bool is_growth = options.kind == ViewKind::kGrowth;
  view.since = before != nullptr ? before->head.time
               : is_growth       ? profile.mark_time()
                                 : profile.head.begun;
  const Earlier earlier(before);
  for (const Site& site : profile.sites) {
    view.rows.push_back({&site, amount_of(site, options.kind, before, earlier)});
  }
  const bool is_stale = options.kind == ViewKind::kStale;
  if (is_stale || options.kind == ViewKind::kLive) {
    sum_samples(profile, is_stale ? options.stale_ns : 0, &view.rows);
  }
  std::erase_if(view.rows, [&](const ViewRow& row) {
    const bool is_nothing = row.amount.objects == 0 && row.amount.bytes == 0;
    return is_nothing || !is_within(profile.name(row.site->tag), options.tag);
  });
  const bool by_objects = options.kind == ViewKind::kLifetimes;
  std::stable_sort(view.rows.begin(), view.rows.end(), [&](const ViewRow& a, const ViewRow& b) {
    return by_objects ? a.amount.objects > b.amount.objects : a.amount.bytes > b.amount.bytes;
  });
  for (const ViewRow& row : view.rows) view.total = add(view.total, row.amount);
  return view;
}

const char* name_of(ViewKind kind) {
  switch (kind) {
    case ViewKind::kLive:
      return "live";
    case ViewKind::kAllocated:
      return "allocated";
    case ViewKind::kPeak:
      return "peak";
    case ViewKind::kGrowth:
      return "growth";
    case ViewKind::kStale:
      return "stale";
    case ViewKind::kLifetimes:
      return "lifetimes";
  }
  return "";
}

std::string require_tag_of(const Record& record, const Profile& profile, const std::string& tag) {
  const std::string path = tag.starts_with('/') ? tag : "/" + tag;
  const bool was_there =
      std::any_of(profile.sites.begin(), profile.sites.end(),
                  [&](const Site& site) { return is_within(profile.name(site.tag), path); });
  return was_there ? path : std::string(record.name(require_tag(record, path)));
}

uint64_t age_at(int64_t now, int64_t time) {
  return time >= now ? 0 : static_cast<uint64_t>(now) - static_cast<uint64_t>(time);
}

uint64_t rounded(double estimate) {
  constexpr double kMost = 9e18;
  return static_cast<uint64_t>(std::llround(std::min(estimate, kMost)));
}

}  // namespace tally::tool
