// Without descriptors 0, 1 and 2, with a report to write and an option to complain of: the program
// does not notice, and Tally takes no descriptor for itself, least of all one of those.
#include <sys/stat.h>
#include <sys/wait.h>

#include "threads.hpp"

namespace {

int open_descriptors() {
  int n = 0;
  for (int fd = 0; fd < 1000; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

// Runs without the standard descriptors.
int body() {
  if (!tally_is_live()) return 10;
  if (fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0) return 11;
  const int before = open_descriptors();
  exercise(1);
  tally_snapshot_free(tally_snapshot());
  void* p = malloc(20 << 20);
  free(p);
  malloc_trim(0);
  if (open_descriptors() != before) return 12;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return body();
  CHECK_LIVE();
  setenv("TALLY_REPORT", "1", 1);
  setenv("TALLY_PURGE_MS", "nonsense", 1);
  const pid_t pid = fork();
  if (pid == 0) {
    for (int fd = 0; fd < 100; fd++) close(fd);
    execl("/proc/self/exe", argv[0], "body", nullptr);
    _exit(1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK_OP(WEXITSTATUS(status), ==, 0);
  return 0;
}
