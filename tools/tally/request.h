// Asks a running process for something through its record.
#pragma once

#include <cstdint>
#include <string>

#include "limit_size.h"
#include "record_reader.h"

namespace tally::tool {

// Each has the process do it, waits for its reply, and throws Failure (kFailed): it does not live,
// could not do it, does not answer in time, or somebody else asks at the same time.

// Sets what the tag of this path may hold.
void request_limit(Reader& reader, const std::string& path, const LimitSettings& limit);
// Has what is not used go back; the bytes that did.
uint64_t request_trim(Reader& reader);

}  // namespace tally::tool
