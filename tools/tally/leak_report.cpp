#include "leak_report.h"

#include <algorithm>
#include <span>
#include <vector>

#include "ledger_parts.h"
#include "profile_view.h"
#include "summary.h"
#include "text.h"

namespace tally::tool {
namespace {

using Align = Table::Align;

struct Suspect {
  ViewRow row;
  uint64_t oldest_ns = 0, newest_ns = UINT64_MAX;
  double byte_ages = 0;  // the sum over its blocks of their bytes times their age
};

// Most bytes times age first: old and large ones.
std::vector<Suspect> suspects_of(const Profile& profile, const View& view) {
  std::vector<Suspect> by_site(profile.sites.size());
  for (const record::Sample& sample : profile.samples) {
    Suspect& suspect = by_site[sample.site];
    const uint64_t age = age_at(profile.head.time, sample.time);
    suspect.oldest_ns = std::max(suspect.oldest_ns, age);
    suspect.newest_ns = std::min(suspect.newest_ns, age);
    suspect.byte_ages += weight_of(sample.bytes, profile.head.rate) *
                         static_cast<double>(sample.bytes) * static_cast<double>(age);
  }
  std::vector<Suspect> suspects;
  for (const ViewRow& row : view.rows) {
    suspects.push_back(by_site[static_cast<size_t>(row.site - profile.sites.data())]);
    suspects.back().row = row;
  }
  std::stable_sort(suspects.begin(), suspects.end(), [](const Suspect& one, const Suspect& other) {
    return one.byte_ages > other.byte_ages;
  });
  return suspects;
}

// What can be said of all of it.
const char* caveat_of(const std::string& state) {
  if (state == "ended") {
    return "This was never freed: leaks, and what the program keeps on purpose until its end.";
  }
  if (state == "dead") {
    return "The program had no chance to free it, and was using much of it: leaks are old, grew, "
           "and have few of their kind freed.";
  }
  return "The program runs and is using much of it: leaks are old, grow, and have few of their "
         "kind freed.";
}

std::string ages_of(const Suspect& suspect) {
  if (suspect.row.samples == 0) return "-";
  const std::string oldest = format_duration(suspect.oldest_ns);
  const std::string newest = format_duration(suspect.newest_ns);
  return oldest == newest ? oldest : newest + " to " + oldest;
}

std::string growth_of(const record::Site& site) {
  return format_signed(static_cast<int64_t>(site.live.bytes - site.mark.bytes));
}

std::string freed_of(const record::Site& site) {
  const uint64_t allocated = site.allocated.objects;
  return format_share(allocated - std::min(allocated, site.live.objects), allocated);
}

}  // namespace

std::string leak_report(const Record& record, const Profile& profile, Symbols& symbols,
                        const std::string& tag, const TableSize& size) {
  const View view = view_of(profile, {.kind = ViewKind::kLive, .tag = tag, .stale_ns = 0});
  const std::vector<Suspect> suspects = suspects_of(profile, view);
  std::string text = "not freed: about " + format_bytes(view.total.bytes) + " in " +
                     std::to_string(view.total.objects) + " blocks, of " +
                     std::to_string(suspects.size()) +
                     (suspects.size() == 1 ? " stack" : " stacks") + "; one block in " +
                     format_bytes(profile.head.rate) + " allocated was sampled\n";
  if (suspects.empty()) return text;
  const std::string growth =
      "GREW IN " + format_duration(age_at(profile.head.time, profile.mark_time()));
  Table table({{"BYTES", Align::kRight, true},
               {"BLOCKS"},
               {"SAMPLES"},
               {"AGE"},
               {growth, Align::kRight, true},
               {"FREED"},
               {"TAG", Align::kLeft},
               {"ALLOCATED BY", Align::kLeft}});
  const size_t rows = size.rows_of(suspects.size());
  for (const Suspect& suspect : std::span(suspects).first(rows)) {
    const ViewRow& row = suspect.row;
    const record::Site& site = *row.site;
    std::vector<std::string> cells = {
        format_bytes(row.amount.bytes),
        std::to_string(row.amount.objects),
        std::to_string(row.samples),
        ages_of(suspect),
        growth_of(site),
        freed_of(site),
        shortened(printable(profile.name(site.tag)), Table::kNameMost)};
    add_stack(&table, cells, symbols.lines_of(site.call, size.frames));
  }
  text += caveat_of(state_of(record)) + std::string("\n\n") + table.text();
  if (rows < suspects.size()) {
    text += "... and " + std::to_string(suspects.size() - rows) + " more; --rows 0 shows all\n";
  }
  return text;
}

}  // namespace tally::tool
