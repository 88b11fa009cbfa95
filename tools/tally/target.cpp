#include "target.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <sstream>

#include "dump_reader.h"
#include "failure.h"
#include "process.h"
#include "text.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

bool has_only_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number;
  bool ok = has_only_digits(text) &&
            std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
  return ok ? std::optional(number) : std::nullopt;
}

// The pid of "<pid>.tally".
std::optional<long> pid_of(const std::string& name) {
  if (!name.ends_with(record::kSuffix)) return std::nullopt;
  return number_in<long>(
      std::string_view(name).substr(0, name.size() + 1 - sizeof record::kSuffix));
}

// Anyone can make a folder in /dev/shm: one that is not its user's own, or a link, is passed over.
bool is_own_folder(const std::string& path, uid_t uid) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == uid;
}

void list_folder(uid_t uid, std::vector<RecordFile>* files) {
  const std::string folder = record::kFolderPrefix + std::to_string(uid);
  if (!is_own_folder(folder, uid)) return;
  std::error_code error;  // none can be read: there are none
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::optional<long> pid = pid_of(entry.path().filename());
    bool is_file = entry.symlink_status(error).type() == fs::file_type::regular;
    if (pid && is_file) files->push_back({entry.path(), *pid, uid});
  }
}

// As root every user's.
std::vector<uid_t> users() {
  if (geteuid() != 0) return {geteuid()};
  std::vector<uid_t> all;
  const fs::path prefix = record::kFolderPrefix;
  const std::string begin = prefix.filename();
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(prefix.parent_path(), error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(begin)) continue;
    if (auto uid = number_in<uid_t>(name.substr(begin.size()))) all.push_back(*uid);
  }
  return all;
}

// Of several users' processes that had this pid, one that lives.
std::optional<std::string> file_of(long pid) {
  std::optional<std::string> found;
  for (const RecordFile& file : list_records()) {
    if (file.pid != pid) continue;
    if (!found || Reader(file.path).is_live()) found = file.path;
  }
  return found;
}

// Where a process in a container keeps its record, as it is seen from here; empty if it has none.
std::string record_in_its_root(long pid, uid_t uid) {
  std::istringstream status(read_proc(pid, "status"));
  std::string line, own;
  while (std::getline(status, line)) {
    if (line.starts_with("NSpid:")) own = line.substr(line.find_last_of(" \t") + 1);
  }
  const std::string path = "/proc/" + std::to_string(pid) + "/root" + record::kFolderPrefix +
                           std::to_string(uid) + "/" + own + record::kSuffix;
  return access(path.c_str(), R_OK) == 0 ? path : "";
}

[[noreturn]] void fail_without_record(const std::string& pid_text, std::optional<long> pid) {
  auto fail = [](const std::string& message) { throw Failure(kFailed, message); };
  std::optional<ProcessStatus> status = pid ? process_status(*pid) : std::nullopt;
  if (!status) fail("no process " + pid_text + ", and no record of one");
  const std::string process = "process " + pid_text + " (" + printable(status->name) + ")";
  if (geteuid() != 0 && status->uid != geteuid()) {
    fail(process + " belongs to " + user_name(status->uid) + ": run tally as that user or as root");
  }
  if (const std::string inside = record_in_its_root(*pid, status->uid); !inside.empty()) {
    fail(process + " has its record in a root of its own, a container's: name it by its file, " +
         inside);
  }
  if (read_proc(*pid, "maps").find("/libtally.so") != std::string::npos) {
    fail(process + " is under Tally, but without a record: start it with TALLY_RECORD=1");
  }
  fail(process +
       " has no record: start it by tally run PROGRAM, or with TALLY_RECORD=1 and, if it " +
       "is not linked to Tally, LD_PRELOAD=libtally.so.1");
  __builtin_unreachable();
}

// What may be shown of a record that perhaps cannot be read.
std::optional<std::string> command_if_live(const RecordFile& file) {
  try {
    Reader reader(file.path);
    if (!reader.is_live()) return std::nullopt;
    return command_of(reader.head());
  } catch (const Failure&) {
    return std::nullopt;
  }
}

std::string only_target() {
  std::string list, path;
  int count = 0;
  for (const RecordFile& file : list_records()) {
    std::optional<std::string> command = command_if_live(file);
    if (!command) continue;
    ++count;
    path = file.path;
    list += "\n  " + std::to_string(file.pid) + "  " + shortened(*command, 80);
  }
  if (count == 0) {
    throw Failure(
        kFailed,
        "no running process has a record: start one by tally run PROGRAM, or name the file "
        "of a record");
  }
  if (count == 1) return path;
  throw Failure(kFailed,
                std::to_string(count) + " processes have a record; name one by its pid:" + list);
}

}  // namespace

std::vector<RecordFile> list_records() {
  std::vector<RecordFile> files;
  for (uid_t uid : users()) list_folder(uid, &files);
  std::sort(files.begin(), files.end(),
            [](const RecordFile& one, const RecordFile& other) { return one.pid < other.pid; });
  return files;
}

std::string find_target(const std::string& target) {
  if (target.empty()) return only_target();
  if (!has_only_digits(target)) return target;
  std::optional<long> pid = number_in<long>(target);
  std::optional<std::string> found = pid ? file_of(*pid) : std::nullopt;
  if (!found) fail_without_record(target, pid);
  return *found;
}

Reader open_record(const std::string& target) {
  const std::string path = find_target(target);
  if (is_dump(path)) throw Failure(kFailed, path + ": a dump in JSON; this needs a record");
  return Reader(path);
}

void require_sampled(const Reader& reader, const Profile& profile) {
  if (profile.is_on()) return;
  throw Failure(kFailed, reader.path() + ": process " + std::to_string(reader.head().pid) +
                             " was not sampled: start it by tally run PROGRAM, or with "
                             "TALLY_SAMPLE=512K");
}

Profile require_profile(Reader& reader) {
  Profile profile = reader.read_profile();
  require_sampled(reader, profile);
  return profile;
}

Record load(const std::string& target) {
  const std::string path = find_target(target);
  return is_dump(path) ? read_dump(path) : Reader(path).read();
}

}  // namespace tally::tool
