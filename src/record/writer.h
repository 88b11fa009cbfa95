// Writes the record (record/layout.h): what the process holds, when the layer above says that it is
// time for it.
#pragma once

#include <cstdint>

#include "base/text.h"
#include "record/layout.h"
#include "tag/tag.h"

namespace tally::record {

inline constexpr size_t kFolderMost = 64;

struct Terms {
  uint32_t interval_ms = 0;
  bool has_thread = false;
};

// ---- One thread at a time, which holds no lock. None allocates.

// Makes the file in this folder, and publishes for the first time. False: there is no record, and
// `why` was told.
bool start(const char* folder, const Terms& terms, core::TextWriter& why);
// There is a record, and it is the running process's.
bool is_on();
const char* path();

// Walks over the heap and writes all that it finds. 0, or an errno: then there is no record any
// more. ESTALE: as somebody else removed it, or the program closed what leads to it.
int publish(bool is_last);
// Does what was asked for from outside, if anything was since the last call: true then.
bool serve_request();

// The end: the file is removed, or left as a dead process's.
void finish(bool keep);
// Likewise while another thread may be publishing: it keeps its descriptor, as the number could be
// another file's before it writes.
void finish_beside(bool keep);
// In a forked child: it has no record.
void leave_to_parent();

// ---- Any thread, which holds no lock but perhaps the turn of the above.

// Something happened at a limit of the tag's.
void write_event(EventKind kind, const core::Tag& tag, uint64_t asked, uint64_t left_out);

}  // namespace tally::record
