#include "executable.h"

#include <elf.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "elf_file.h"
#include "failure.h"

extern "C" const Elf64_Ehdr __ehdr_start;  // this program's; the linker defines it

namespace tally::tool {
namespace {

// 0, or why execve would refuse.
int refusal(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

// Whether code of this program could run beside the file's.
bool is_like_this_program(const ElfFile& file) {
  return file.bits() == __ehdr_start.e_ident[EI_CLASS] && file.machine() == __ehdr_start.e_machine;
}

// As the kernel sees it: rights are raised by an identity that the caller does not have.
bool has_raised_rights(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return false;
  constexpr mode_t kSetsGroup = S_ISGID | S_IXGRP;
  return ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid()) ||
         ((status.st_mode & kSetsGroup) == kSetsGroup && status.st_gid != getgid()) ||
         (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0);
}

}  // namespace

void fail_to_run(const std::string& name, int error) {
  throw Failure(error == ENOENT ? kNotFound : kCannotRun,
                (name.empty() ? "''" : name) + ": " + strerror(error));
}

std::string find_program(const std::string& name) {
  if (name.empty() || name.find('/') != name.npos) {
    int error = refusal(name);
    if (error != 0) fail_to_run(name, error);
    return name;
  }
  const char* set = getenv("PATH");
  const std::string path = set == nullptr ? "/bin:/usr/bin" : set;
  int error = 0;
  for (size_t start = 0, end; start <= path.size(); start = end + 1) {
    end = std::min(path.find(':', start), path.size());
    std::string folder = path.substr(start, end - start);  // empty: the current one
    std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    int why_not = refusal(candidate);
    if (why_not == 0) return candidate;
    if (why_not == EACCES) error = EACCES;
  }
  if (error != 0) fail_to_run(name, error);
  throw Failure(kNotFound, name + ": not found in PATH");
}

std::string interpreter_of(const std::string& script) {
  std::ifstream file(script, std::ios::binary);
  std::string line;
  std::getline(file, line);
  if (!line.starts_with("#!")) return "";
  size_t start = line.find_first_not_of(" \t", 2);
  if (start == line.npos) return "";
  return line.substr(start, line.find_first_of(" \t", start) - start);
}

std::string why_not_preloadable(const std::string& program) {
  if (has_raised_rights(program)) {
    return " has raised rights (setuid, setgid or capabilities): the dynamic linker ignores "
           "LD_PRELOAD for it";
  }
  const std::optional<ElfFile> file = ElfFile::open(program);
  if (!file) return "";
  if (!is_like_this_program(*file)) {
    const char* kind = file->bits() == ELFCLASS32 ? "a 32-bit program" : "for another processor";
    return std::string(" is ") + kind + ": this Tally cannot be loaded into it";
  }
  if (file->dynamic_linker().empty()) {
    return " is statically linked: nothing can be preloaded into it; link it with tally::malloc "
           "(libtally_malloc.a)";
  }
  return "";
}

void require_preloadable(const std::string& program) {
  const std::string by = interpreter_of(program);
  const std::string why = why_not_preloadable(by.empty() ? program : by);
  if (why.empty()) return;
  throw Failure(kConfiguration, (by.empty() ? program : program + ": its interpreter " + by) + why);
}

bool has_tally_inside(const std::string& program) {
  const std::optional<ElfFile> file = ElfFile::open(program);
  if (!file) return false;
  bool has_malloc = false, has_tally = false;
  file->each_symbol([&](const ElfFile::Symbol& symbol) {
    has_malloc |= symbol.is_defined && symbol.name == "malloc";
    has_tally |= symbol.is_defined && symbol.name == "tally_version";
  });
  return has_malloc && has_tally;
}

bool is_shared_library(const std::string& path) {
  const std::optional<ElfFile> file = ElfFile::open(path);
  return file && file->is_shared_object() && is_like_this_program(*file);
}

}  // namespace tally::tool
