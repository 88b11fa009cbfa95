// When the record (record/writer.h) is written: TALLY_RECORD and TALLY_RECORD_MS.
#pragma once

namespace tally::core {

// When options are known; may start a thread.
void start_recorder();
void end_record();
// The process is about to end otherwise. No lock held.
void record_now();
// In a forked child, which gets a record of its own once it has lived for a while.
void let_go_of_record();

}  // namespace tally::core
