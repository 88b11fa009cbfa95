// A program as a child that one need not know to be one: its signals, its stops and its end are
// those of this process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace tally::tool {

// The variable by which one process alone reports at its end (TALLY_REPORT).
inline constexpr char kReportPid[] = "TALLY_REPORT_PID";

struct Ending {
  pid_t pid;               // of the program; it has been waited for
  int status;              // as waitpid() has it
  int64_t started, ended;  // CLOCK_REALTIME, in nanoseconds
  uint64_t oom_kills;      // by the kernel's OOM killer meanwhile, in the whole system
};

// Sets kReportPid to the id that the program will have, unless `everyone` is to report. Runs the
// program, in this process group and on this terminal, and returns when it has ended.
// Signals are blocked from then on. Throws Failure, as execvp fails, if it cannot be run.
//
// What is sent to this process alone the program gets too; what the terminal or the program itself
// sends to the whole group it has got already. If the program stops, so does this process, for a
// shell to see; if this process is killed by SIGKILL, so is the program.
Ending supervise(const std::string& program, char** arguments, bool everyone);

// Returns the exit status to end with, or ends by the signal that the program ended by.
int end_like(const Ending& ending);

}  // namespace tally::tool
