// A record for programs.
#pragma once

#include <span>
#include <string>

#include "record.h"

namespace tally::tool {

// The library's own JSON (tally_snapshot_json), as far as a record knows it, with the ledger, and
// more of each class. What reads the one reads the other.
std::string stat_as_json(const Record& record);

// How processes are told that have ended.
enum class Ended {
  kWhole,  // as they were
  kDown,   // only that they are down: what they held is no part of a sum over processes
};

// OpenMetrics 1.0, with labels `pid` and `process`, no two records having the same pid. Of tags
// each sample is of the tag alone, so that sums over tags are right.
std::string as_open_metrics(std::span<const Record> records, Ended ended);

}  // namespace tally::tool
