// Reports that the process writes about itself: at its end, and when the signal asks for one.
#pragma once

namespace tally::core {

// TALLY_REPORT: a table on stderr, or a file; JSON if its name ends in .json.
void prepare_report();  // when options are known
void report_at_exit();
// TALLY_DUMP_SIGNAL: JSON to TALLY_DUMP_PATH. May run in a signal handler at any point.
void dump_now();

}  // namespace tally::core
