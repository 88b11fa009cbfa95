#include <dlfcn.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "checks.h"
#include "environment.h"
#include "failure.h"
#include "libraries.h"
#include "process.h"
#include "record/layout.h"
#include "tally/tally.h"
#include "text.h"

namespace tally::tool {
namespace {

// Those that the library would follow, as it is loaded here to see whether it can be.
void clear_options() {
  std::string names;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view variable = *at;
    if (variable.starts_with("TALLY_")) names.append(variable, 0, variable.find('=')) += ' ';
  }
  std::istringstream list(names);
  for (std::string name; list >> name;) unsetenv(name.c_str());
}

void check_library(Findings& findings) {
  std::string path;
  try {
    path = find_tally_library(variable("TALLY_LIBRARY"));
  } catch (const Failure& failure) {
    findings.problem("library", failure.what(), "");
    return;
  }
  clear_options();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* version = library == nullptr ? nullptr : dlsym(library, "tally_version");
  if (version == nullptr) {
    findings.problem("library", path + " cannot be loaded", dlerror());
    return;
  }
  const std::string its = reinterpret_cast<const char* (*)()>(version)();
  char ours[32];
  snprintf(ours, sizeof ours, "%d.%d.%d", TALLY_VERSION_MAJOR, TALLY_VERSION_MINOR,
           TALLY_VERSION_PATCH);
  if (its == ours) {
    findings.ok("library", path + ", version " + its);
  } else {
    findings.problem("library", path + " is of version " + its + ", this program of " + ours,
                     "use those that were built together");
  }
}

void check_preload(Findings& findings) {
  const std::string preload = variable("LD_PRELOAD");
  if (preload.empty()) {
    findings.ok("LD_PRELOAD", "not set");
  } else if (preload.find("libtally.so") != preload.npos) {
    findings.note("LD_PRELOAD", preload, "programs run under Tally already, this one too");
  } else {
    findings.note("LD_PRELOAD", preload, "`tally run` has it loaded after Tally");
  }
}

void check_shared_memory(Findings& findings) {
  constexpr char kShared[] = "/dev/shm";
  struct statfs info;
  if (statfs(kShared, &info) != 0) {
    findings.problem(kShared, strerror(errno), "there can be no records; mount a tmpfs there");
    return;
  }
  const uint64_t free = uint64_t{info.f_bavail} * uint64_t(info.f_bsize);
  const std::string text = format_bytes(free) + " are free";
  if (free < record::kFileBytes) {
    findings.problem(kShared, text,
                     "a record takes up to " + format_bytes(record::kFileBytes) +
                         "; remove files there, or mount it larger (docker run --shm-size)");
  } else if (info.f_type != TMPFS_MAGIC) {
    findings.note(kShared, text + ", but it is no tmpfs", "records may wait for a disk");
  } else if (access(kShared, W_OK | X_OK) != 0) {
    findings.problem(kShared, "may not be written to", "there can be no records");
  } else {
    findings.ok(kShared, text);
  }
}

// Where this user's records are.
void check_folder(Findings& findings) {
  const std::string path = record::kFolderPrefix + std::to_string(geteuid());
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    findings.ok("records", "none yet: " + path + " is made with the first");
  } else if (!S_ISDIR(status.st_mode)) {
    findings.problem("records", path + " is no folder", "there can be no records; remove it");
  } else if (status.st_uid != geteuid()) {
    findings.problem("records", path + " belongs to " + user_name(status.st_uid),
                     "there can be no records; have it removed");
  } else if ((status.st_mode & 07777) != 0700) {
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", status.st_mode & 07777u);
    findings.problem("records", path + " has mode " + mode,
                     "there can be no records; chmod 700 it, or remove it");
  } else {
    findings.ok("records", "are in " + path);
  }
}

void check_kernel(Findings& findings) {
  constexpr int kTriedMajor = 4, kTriedMinor = 14;
  utsname name;
  uname(&name);
  int major = 0, minor = 0;
  sscanf(name.release, "%d.%d", &major, &minor);
  const std::string text = std::string(name.sysname) + " " + name.release;
  if (major < kTriedMajor || (major == kTriedMajor && minor < kTriedMinor)) {
    findings.note("kernel", text, "older than any that Tally was meant for (4.14)");
  } else {
    findings.ok("kernel", text);
  }
}

void check_huge_pages(Findings& findings) {
  const std::string text = content_of("/sys/kernel/mm/transparent_hugepage/enabled");
  if (text.find("[always]") != text.npos) {
    findings.note("huge pages", text,
                  "the kernel gives 2 MiB where a program touched a byte, and resident memory may "
                  "be far above what is used; madvise leaves it to TALLY_THP");
  } else if (text.find("[never]") != text.npos) {
    findings.ok("huge pages", text + ": TALLY_THP does nothing");
  } else {
    findings.ok("huge pages", text.empty() ? "none here" : text);
  }
}

void check_overcommit(Findings& findings) {
  const std::string mode = content_of("/proc/sys/vm/overcommit_memory");
  if (mode == "2") {
    findings.note("overcommit", "vm.overcommit_memory is 2",
                  "address space counts, used or not: Tally takes it 4 MiB at a time, and "
                  "TALLY_BACKEND=libc twice that");
  } else {
    findings.ok("overcommit", "vm.overcommit_memory is " + mode);
  }
  const std::string most = content_of("/proc/sys/vm/max_map_count");
  constexpr long kUsual = 65530;
  if (strtol(most.c_str(), nullptr, 10) < kUsual) {
    findings.note("mappings", "vm.max_map_count is " + most,
                  "the usual is 65530; a program with many large blocks may run out of them");
  } else {
    findings.ok("mappings", "vm.max_map_count is " + most);
  }
}

void check_limit(Findings& findings, int resource, const char* name) {
  rlimit limit;
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  if (limit.rlim_cur == RLIM_INFINITY) {
    findings.ok(name, "unlimited");
  } else {
    findings.note(name, format_bytes(limit.rlim_cur),
                  "counts address space, used or not; the backend os needs least of it, and "
                  "TALLY_LIMIT limits what is used");
  }
}

void check_backends(Findings& findings) {
  for (const Backend& backend : backends()) {
    if (backend.files.empty()) continue;
    try {
      findings.ok("backend", find_backend_library(backend, linker_search_path()));
    } catch (const Failure& failure) {
      findings.note("backend", failure.what(), "");
    }
  }
}

// ---- Of a cgroup

struct MemoryGroup {
  std::string path;  // of the one whose limit is the least
  uint64_t limit = 0, held = 0;
};

// Those above limit it as well.
void look_upwards(MemoryGroup& found, const std::string& mount, std::string path, const char* limit,
                  const char* held) {
  for (;;) {
    const std::string folder = mount + (path == "/" ? "" : path) + "/";
    const std::string text = content_of(folder + limit);
    const uint64_t bytes = strtoull(text.c_str(), nullptr, 10);
    constexpr uint64_t kNone = uint64_t{1} << 60;  // what version 1 has for no limit
    const bool is_limit = !text.empty() && text != "max" && bytes < kNone;
    if (is_limit && (found.path.empty() || bytes < found.limit)) {
      found = {path, bytes, strtoull(content_of(folder + held).c_str(), nullptr, 10)};
    }
    if (path.size() <= 1) return;
    path.resize(std::max<size_t>(path.rfind('/'), 1));
  }
}

MemoryGroup memory_group(pid_t pid) {
  MemoryGroup found;
  std::istringstream lines(read_proc(pid, "cgroup"));
  for (std::string line; std::getline(lines, line);) {  // "0::/path"; version 1: "7:memory:/path"
    size_t slash = line.find('/');
    if (slash == line.npos) continue;
    const std::string path = line.substr(slash);
    if (line.starts_with("0::")) {
      look_upwards(found, "/sys/fs/cgroup", path, "memory.max", "memory.current");
    } else if (line.find(":memory:") != line.npos) {
      look_upwards(found, "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes",
                   "memory.usage_in_bytes");
    }
  }
  return found;
}

}  // namespace

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string all = text.str();
  all.resize(all.find_last_not_of(" \n\t") + 1);
  return all;
}

void check_memory_group(Findings& findings, pid_t pid) {
  const MemoryGroup group = memory_group(pid);
  if (group.path.empty()) {
    findings.ok("cgroup", "no limit of memory");
    return;
  }
  const std::string text = "holds " + format_bytes(group.held) + " of " + format_bytes(group.limit);
  if (group.held > group.limit / 10 * 9) {
    findings.note("cgroup", text,
                  "the kernel kills where it reaches that; TALLY_LIMIT=90% is before");
  } else {
    findings.ok("cgroup", text);
  }
}

void check_system(Findings& findings) {
  check_preload(findings);
  check_shared_memory(findings);
  check_folder(findings);
  check_kernel(findings);
  check_huge_pages(findings);
  check_overcommit(findings);
  check_limit(findings, RLIMIT_AS, "RLIMIT_AS");
  check_limit(findings, RLIMIT_DATA, "RLIMIT_DATA");
  check_memory_group(findings, getpid());
  check_backends(findings);
  check_library(findings);
}

}  // namespace tally::tool
