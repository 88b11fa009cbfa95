#include <elf.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "checks.h"
#include "elf_file.h"
#include "process.h"
#include "record/layout.h"
#include "text.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

std::string folder_of(pid_t pid) { return "/proc/" + std::to_string(pid) + "/"; }

// What /proc/PID/status has under this name; empty if it does not.
std::string status_field(pid_t pid, const std::string& name) {
  std::istringstream lines(read_proc(pid, "status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

uint64_t bytes_of(const std::string& kilobytes) {
  return strtoull(kilobytes.c_str(), nullptr, 10) * 1024;
}

// "NAME=VALUE", as it was started with.
std::vector<std::string> environment_of(pid_t pid) {
  std::istringstream all(read_proc(pid, "environ"));
  std::vector<std::string> variables;
  for (std::string one; std::getline(all, one, '\0');) variables.push_back(one);
  return variables;
}

std::string value_in(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& variable : environment) {
    if (variable.starts_with(name + "=")) return variable.substr(name.size() + 1);
  }
  return "";
}

// The file of libtally.so in its memory, maybe with " (deleted)"; empty: it has none.
std::string tally_in(const std::string& maps) {
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    size_t path = line.find('/');
    if (path == line.npos) continue;
    size_t name = line.rfind('/') + 1;
    for (std::string_view library : {"libtally.so", "libtally-hardened.so"}) {
      if (line.compare(name, library.size(), library) == 0) return line.substr(path);
    }
  }
  return "";
}

// Whether it has a symbol of its own of that name. Not all that are inside are exported.
bool defines(const std::string& path, std::string_view name, bool only_exported = true) {
  bool does = false;
  if (std::optional<ElfFile> file = ElfFile::open(path)) {
    file->each_symbol([&](const ElfFile::Symbol& symbol) {
      const bool counts = symbol.is_exported || !only_exported;
      does |= counts && symbol.is_defined && symbol.name == name;
    });
  }
  return does;
}

// In the order in which the dynamic linker looks: the program, what was preloaded.
void check_malloc(Findings& findings, pid_t pid, const std::string& preload) {
  if (defines(folder_of(pid) + "exe", "malloc")) {
    findings.problem("malloc", "the program has a malloc of its own, which comes before Tally's",
                     "build it without");
    return;
  }
  std::string names = preload;
  for (char& c : names) c = c == ':' ? ' ' : c;
  std::istringstream list(names);
  for (std::string path; list >> path;) {
    const std::string name = fs::path(path).filename().string();
    if (name.starts_with("libtally.so") || name.starts_with("libtally-hardened.so")) {
      findings.ok("malloc", "is Tally's");
      return;
    }
    if (defines(folder_of(pid) + "root" + path, "malloc")) {
      findings.problem("malloc",
                       "is that of " + path + ", which LD_PRELOAD names before libtally.so",
                       "name libtally.so first, as `tally run` does");
      return;
    }
  }
  findings.note("malloc", "where it is from cannot be told",
                "LD_PRELOAD does not name libtally.so: something else loaded it, or the "
                "environment was overwritten");
}

// False: Tally is not in the process.
bool check_library(Findings& findings, pid_t pid, const std::string& preload) {
  constexpr char kDeleted[] = " (deleted)";
  const std::string library = tally_in(read_proc(pid, "maps"));
  if (library.empty() && defines(folder_of(pid) + "exe", "tally_version", false)) {
    findings.ok("library", "Tally is linked into the program");
  } else if (library.empty()) {
    findings.problem("library", "libtally.so is not in this process", "start it by `tally run`");
    return false;
  } else {
    if (library.ends_with(kDeleted)) {
      findings.note("library", library,
                    "it was replaced since; the process goes on with the one from before");
    } else {
      findings.ok("library", library);
    }
    check_malloc(findings, pid, preload);
  }
  return true;
}

void check_rights(Findings& findings, pid_t pid) {
  const std::string vector = read_proc(pid, "auxv");
  for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= vector.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry;
    memcpy(&entry, vector.data() + at, sizeof entry);
    if (entry.a_type != AT_SECURE || entry.a_un.a_val == 0) continue;
    findings.problem("rights", "it was started with raised rights (AT_SECURE)",
                     "LD_PRELOAD and Tally's variables are ignored");
  }
  if (status_field(pid, "Seccomp") == "2") {
    findings.note("seccomp", "its system calls are filtered",
                  "a filter that refuses madvise, mremap or opening /dev/shm keeps Tally from "
                  "giving memory back or keeping a record");
  }
}

void check_options(Findings& findings, const std::vector<std::string>& environment) {
  std::string list;
  for (const std::string& variable : environment) {
    if (variable.starts_with("TALLY_")) list += (list.empty() ? "" : " ") + variable;
  }
  findings.ok("options", list.empty() ? "no TALLY_ variable was set" : list);
}

// In its own mount and process namespaces.
std::string record_path(pid_t pid) {
  const std::string ids = status_field(pid, "NSpid");  // the innermost last
  std::istringstream uids(status_field(pid, "Uid"));
  std::string real, effective;
  uids >> real >> effective;
  return folder_of(pid) + "root" + record::kFolderPrefix + effective + "/" +
         ids.substr(ids.find_last_of(" \t") + 1) + record::kSuffix;
}

void check_record(Findings& findings, pid_t pid, const std::vector<std::string>& environment) {
  struct stat file;
  if (stat(record_path(pid).c_str(), &file) != 0) {
    if (value_in(environment, "TALLY_RECORD") == "1") {
      findings.problem("record", "TALLY_RECORD=1, and there is none",
                       "it said why on stderr as it started; was /dev/shm full?");
    } else {
      findings.note("record", "there is none", "`tally run` and TALLY_RECORD=1 make one");
    }
    return;
  }
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t age =
      (now.tv_sec - file.st_mtim.tv_sec) * 1'000'000'000 + (now.tv_nsec - file.st_mtim.tv_nsec);
  constexpr int64_t kOld = 10'000'000'000;
  const std::string text = "was written " + format_duration(age < 0 ? 0 : uint64_t(age)) + " ago";
  if (age > kOld) {
    findings.note("record", text,
                  "the process is stopped or hangs, or is idle and TALLY_RECORD_MS is not set");
  } else {
    findings.ok("record", text);
  }
}

void check_pages(Findings& findings, pid_t pid) {
  std::istringstream lines(read_proc(pid, "smaps_rollup"));
  uint64_t rss = 0, huge = 0, swapped = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string value = line.substr(line.find(':') + 1);
    if (line.starts_with("Rss:")) rss = bytes_of(value);
    if (line.starts_with("AnonHugePages:")) huge = bytes_of(value);
    if (line.starts_with("Swap:")) swapped = bytes_of(value);
  }
  if (huge > rss / 8) {
    findings.note("huge pages", format_bytes(huge) + " of " + format_bytes(rss),
                  "a page counts whole as soon as a byte of it was touched");
  } else {
    findings.ok("huge pages", format_bytes(huge) + " of " + format_bytes(rss));
  }
  if (swapped != 0) {
    findings.note("swap", format_bytes(swapped) + " are swapped out",
                  "they are live and in no RSS");
  }
}

}  // namespace

void check_process(Findings& findings, pid_t pid) {
  const std::optional<ProcessStatus> status = process_status(pid);
  if (!status) {
    findings.problem("process", "there is no process " + std::to_string(pid), "");
    return;
  }
  findings.ok("process", status->name + ", of " + user_name(status->uid) + ", resident " +
                             format_bytes(status->rss));
  if (read_proc(pid, "auxv").empty()) {
    findings.problem(
        "process", "its memory may not be looked at",
        "run `tally doctor` as " + user_name(status->uid) + (status->uid == 0 ? "" : " or root"));
    return;
  }
  const std::vector<std::string> environment = environment_of(pid);
  if (!check_library(findings, pid, value_in(environment, "LD_PRELOAD"))) {
    const std::string program = fs::read_symlink(folder_of(pid) + "exe");
    check_program(findings, fs::exists(program) ? program : folder_of(pid) + "exe");
  } else {
    check_options(findings, environment);
    check_record(findings, pid, environment);
  }
  check_rights(findings, pid);
  check_memory_group(findings, pid);
  check_pages(findings, pid);
}

}  // namespace tally::tool
