// What is looked at of a profile: one amount for each stack and tag.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profile.h"
#include "record.h"

namespace tally::tool {

enum class ViewKind {
  kLive,       // not freed
  kAllocated,  // since sampling began
  kPeak,       // live when the footprint was largest
  kGrowth,     // live now, and not at the mark
  kStale,      // live longer than a time
  kLifetimes,  // freed: how long that lived
};

struct ViewRow {
  const record::Site* site;
  record::Amount amount;
  uint32_t samples = 0;  // behind the amount, where that is known: kLive, kStale
};

struct View {
  ViewKind kind = ViewKind::kLive;
  std::vector<ViewRow> rows;  // most bytes first, without those of nothing; of kLifetimes objects
  record::Amount total = {};
  int64_t since = 0;      // kAllocated, kGrowth: the time that is looked back to
  uint64_t stale_ns = 0;  // kStale: how long
};

struct ViewOptions {
  ViewKind kind = ViewKind::kLive;
  std::string tag = "/";  // and those below it
  uint64_t stale_ns = 0;  // kStale
};

// `before`: an earlier profile of the same process, for what grew or was allocated since.
View view_of(const Profile& profile, const ViewOptions& options, const Profile* before = nullptr);

// "live", "allocated", ...
const char* name_of(ViewKind kind);

// Throws Failure (kFailed) if there is no such tag, neither now nor in a profile, with those that
// there are now. The path has its first / then.
std::string require_tag_of(const Record& record, const Profile& profile, const std::string& tag);

// How long ago, for times that may be anything.
uint64_t age_at(int64_t now, int64_t time);

// Estimates add up in double, where they may be anything.
uint64_t rounded(double estimate);

}  // namespace tally::tool
