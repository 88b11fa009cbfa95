#include "output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "failure.h"

namespace tally::tool {
namespace {

bool is_replaceable(const std::string& file) {
  struct stat status;
  return lstat(file.c_str(), &status) != 0 ? errno == ENOENT : S_ISREG(status.st_mode);
}

bool write_to(const std::string& path, const std::string& text) {
  FILE* out = fopen(path.c_str(), "we");
  if (out == nullptr) return false;
  const bool is_written = fwrite(text.data(), 1, text.size(), out) == text.size();
  return fclose(out) == 0 && is_written;
}

}  // namespace

void write_output(const std::string& file, const std::string& text) {
  if (file == "-") {
    fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  const bool is_new = is_replaceable(file);
  const std::string path = is_new ? file + ".tmp" + std::to_string(getpid()) : file;
  if (write_to(path, text) && (!is_new || rename(path.c_str(), file.c_str()) == 0)) return;
  const int error = errno;
  if (is_new) unlink(path.c_str());
  throw Failure(kFailed, "cannot write " + file + ": " + strerror(error));
}

}  // namespace tally::tool
