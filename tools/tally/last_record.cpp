#include "last_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "record/layout.h"

namespace tally::tool {
namespace {

// Anybody may make a folder of this name in /dev/shm, and put there what is no file.
bool is_mine(int folder) {
  struct stat status;
  return fstat(folder, &status) == 0 && status.st_uid == geteuid();
}
bool is_file(int file) {
  struct stat status;
  return file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

void keep_last_record() {
  char folder[64];
  char name[32];
  snprintf(folder, sizeof folder, "%s%u", record::kFolderPrefix, geteuid());
  snprintf(name, sizeof name, "%d%s", getpid(), record::kSuffix);
  const int in = open(folder, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (in < 0) return;
  const int file =
      is_mine(in) ? openat(in, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
  // Who lives has it locked: in another container that has the folder, or this very process.
  if (is_file(file) && flock(file, LOCK_SH | LOCK_NB) == 0) renameat(in, name, in, "last.tally");
  if (file >= 0) close(file);
  close(in);
}

}  // namespace tally::tool
