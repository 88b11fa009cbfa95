// Reads what the library writes as JSON: TALLY_REPORT=FILE.json, TALLY_DUMP_SIGNAL,
// tally_snapshot_json.
#pragma once

#include <string>

#include "record.h"

namespace tally::tool {

// Whether the file begins as JSON does; false if it cannot be read.
bool is_dump(const std::string& path);

// As a record that tells as much as the dump does. Its time is that of the file, if it tells none.
// Throws Failure (kFailed): cut short, not JSON, not Tally's, of a newer version.
Record read_dump(const std::string& path);

}  // namespace tally::tool
