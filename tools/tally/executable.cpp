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

#include "environment.h"
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

struct Image {
  unsigned char bits;    // ELFCLASS32 or ELFCLASS64
  uint16_t machine;      // EM_*
  uint16_t type;         // ET_*
  bool has_interpreter;  // the dynamic linker; a program without is static
};

template <class T>
bool read_at(std::ifstream& file, uint64_t offset, T* to) {
  file.seekg(static_cast<std::streamoff>(offset));
  return static_cast<bool>(file.read(reinterpret_cast<char*>(to), sizeof *to));
}

// Of an ELF file. The segments are looked at in those of 64 bits only.
std::optional<Image> read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header = {};
  // Up to here headers of 32 bits are the same.
  if (!read_at(file, 0, &header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  Image image = {header.e_ident[EI_CLASS], header.e_machine, header.e_type, false};
  if (image.bits != ELFCLASS64) return image;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!read_at(file, header.e_phoff + uint64_t{i} * header.e_phentsize, &segment)) return {};
    image.has_interpreter |= segment.p_type == PT_INTERP;
  }
  return image;
}

// Whether code of this program could run beside the image's.
bool is_like_this_program(const Image& image) {
  return image.bits == __ehdr_start.e_ident[EI_CLASS] && image.machine == __ehdr_start.e_machine;
}

// The program in a script's first line; empty if the file is no script.
std::string interpreter(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  std::getline(file, line);
  if (!line.starts_with("#!")) return "";
  size_t start = line.find_first_not_of(" \t", 2);
  if (start == line.npos) return "";
  return line.substr(start, line.find_first_of(" \t", start) - start);
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

void require_preloadable(const std::string& program) {
  std::string file = program, called = program;
  std::string by = interpreter(program);
  if (!by.empty()) {
    file = by;
    called = program + ": its interpreter " + by;
  }
  if (has_raised_rights(file)) {
    throw Failure(kConfiguration,
                  called +
                      " has raised rights (setuid, setgid or capabilities): the dynamic "
                      "linker ignores LD_PRELOAD for it");
  }
  std::optional<Image> image = read_image(file);
  if (!image) return;
  if (!is_like_this_program(*image)) {
    const char* kind = image->bits == ELFCLASS32 ? "a 32-bit program" : "for another processor";
    throw Failure(kConfiguration, called + " is " + kind + ": this Tally cannot be loaded into it");
  }
  if (!image->has_interpreter) {
    throw Failure(kConfiguration, called +
                                      " is statically linked: nothing can be preloaded into "
                                      "it; link it with tally::malloc (libtally_malloc.a)");
  }
}

bool is_shared_library(const std::string& path) {
  std::optional<Image> image = read_image(path);
  return image && image->type == ET_DYN && is_like_this_program(*image);
}

}  // namespace tally::tool
