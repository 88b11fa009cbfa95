// What is asked from outside: all that the process ever reads from its record.
#pragma once

#include "record/layout.h"

namespace tally::record {

// Does it, if it is newer than the last, whole and sound: true, and there is a reply, without its
// seal. Whatever the bytes are, nothing else comes of them. No lock held.
bool serve(const Request& request, uint64_t last, Reply* reply);

}  // namespace tally::record
