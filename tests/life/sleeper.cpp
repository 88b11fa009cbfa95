// For report_test.py: allocates under a tag, says it is ready, then ends as it is told by standard
// input: exit, _exit, abort, fork, or what `before_exit` knows.
//   sleeper [FILE]
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "threads.hpp"

namespace {

// A database, say, which nobody else must write to.
void open_own_file(const char* path) { CHECK(open(path, O_RDWR | O_CREAT, 0600) == 2); }

void dump_on_small_stacks() {
  auto work = [] {
    for (int i = 0; i < 100; i++) CHECK(raise(SIGUSR2) == 0);
  };
  const auto smallest = static_cast<size_t>(PTHREAD_STACK_MIN);
  Thread a(work, smallest), b(work, smallest), c(work, smallest);
  a.join(), b.join(), c.join();
}

void leave_a_daemon() {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) {
    dprintf(1, "%d\n", pid);
    return;
  }
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; fd++) dup2(null, fd);
  alarm(60);
  for (;;) pause();
}

void before_exit(const char* how, const char* path) {
  if (strcmp(how, "close") == 0) close(2);
  if (strcmp(how, "open") == 0) open_own_file(path);
  if (strcmp(how, "reuse") == 0) {
    for (int fd = 2; fd < 1000; fd++) close(fd);
    open_own_file(path);
    for (int fd = 190; fd < 220; fd++) CHECK(dup2(2, fd) == fd);
  }
  if (strcmp(how, "dumps") == 0) dump_on_small_stacks();
  if (strcmp(how, "daemon") == 0) leave_a_daemon();
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  const tally_tag tag = tally_tag_create("/sleeper/cache");
  for (int i = 0; i < 1000; i++) CHECK(tally_malloc(tag, 100) != nullptr);
  exercise(1);
  dprintf(1, "ready\n");
  char how[32] = "";
  // A signal that asks for a dump must not cut the program's own calls short.
  const ssize_t n = read(0, how, sizeof how - 1);
  CHECK(n > 0);
  if (strncmp(how, "_exit", 5) == 0) _exit(5);
  if (strncmp(how, "abort", 5) == 0) abort();
  if (strncmp(how, "fork", 4) == 0) {
    const pid_t pid = fork();
    if (pid == 0) {
      CHECK(tally_malloc(tally_tag_create("/sleeper/child"), 10) != nullptr);
      exit(0);
    }
    CHECK(waitpid(pid, nullptr, 0) == pid);
  }
  before_exit(how, argc > 1 ? argv[1] : nullptr);
  exit(3);
}
