// Asks a running process for something through its record.
#pragma once

#include "record_reader.h"

namespace tally::tool {

// Has the process do it, and waits for its reply. Throws Failure (kFailed): it does not live, does
// not answer in time, or somebody else asks at the same time.
record::Reply send_request(Reader& reader, record::Request request);

}  // namespace tally::tool
