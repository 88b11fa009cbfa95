// Reports that the process writes about itself: at its end, and when the signal asks for one.
#pragma once

namespace tally::core {

// TALLY_REPORT: a table on stderr, or a file; JSON if its name ends in .json.
void prepare_report();  // when options are known
void report_at_exit();
// The descriptor of stderr as the program found it; -1 if it leads elsewhere by now.
int program_stderr();
// "tally: <option>: cannot <verb> <object>: <the last error>" there, a line.
void complain_cannot(const char* option, const char* verb, const char* object);
void let_go_of_stderr();  // in a forked child
// TALLY_DUMP_SIGNAL: JSON to TALLY_DUMP_PATH, in the signal's handler, on whatever stack that has.
void prepare_dumps();  // after prepare_report

}  // namespace tally::core
