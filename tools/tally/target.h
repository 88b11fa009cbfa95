// What a TARGET of the command line stands for: a process, by its pid; a record, or a dump in JSON,
// by its file; or nothing, if only one process could be meant.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "record.h"
#include "record_reader.h"

namespace tally::tool {

struct RecordFile {
  std::string path;
  long pid;
  uid_t uid;  // whose it is
};

// The records of this user's processes, as root of all users', live and dead, by pid.
std::vector<RecordFile> list_records();

// The file that TARGET stands for. Throws Failure (kFailed): there is no such process, it has no
// record, it belongs to another user; or none or several could be meant.
std::string find_target(const std::string& target);

// The record of TARGET, for what a dump cannot serve. Throws Failure (kFailed).
Reader open_record(const std::string& target);

// The profile in a record. Throws Failure (kFailed) if there is none, as the process was not
// sampled.
Profile require_profile(Reader& reader);
// Likewise of one that was read.
void require_sampled(const Reader& reader, const Profile& profile);

// What TARGET holds: the newest frame of a record, or a dump. Throws Failure (kFailed).
Record load(const std::string& target);

// For the help of commands.
inline constexpr char kTargetHelp[] =
    "  TARGET    a process id, or the file of a record (a file whose name is a number: ./123); "
    "may\n"
    "            be left out where only one running process has a record\n";

}  // namespace tally::tool
