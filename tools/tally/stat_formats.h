// A record for programs.
#pragma once

#include <string>

#include "record.h"

namespace tally::tool {

// The library's own JSON (tally_snapshot_json), as far as a record knows it, with the ledger, and
// more of each class. What reads the one reads the other.
std::string stat_as_json(const Record& record);

// OpenMetrics 1.0. Of tags each sample is of the tag alone, so that sums over tags are right.
std::string stat_as_open_metrics(const Record& record);

}  // namespace tally::tool
