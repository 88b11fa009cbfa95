// What is said of a record before anything else.
#pragma once

#include <string>

#include "record.h"

namespace tally::tool {

// "running", "stopped", "dead"; "ended" if it left the record by an exit; "dump" of JSON.
std::string state_of(const Record& record);

// How old the frame is, in nanoseconds.
uint64_t age_of(const Record& record);

// "process 4711, running, as of 340 ms ago: server --port 80", a line.
std::string heading(const Record& record);

// What it was started as, without folders: "server"; at most 40 characters.
std::string process_name(const Record& record);

// "soft", "hard" or "normal".
const char* pressure_name(uint32_t level);

// The counts of the whole process, as the root has them; without it, the sum of what there is.
tally_counts totals(const Record& record);

}  // namespace tally::tool
