// For report_test.py: allocates under a tag, says it is ready, then ends as it is told by standard
// input.
//   sleeper [exit|_exit|fork|abort]
#include <sys/wait.h>

#include "threads.hpp"

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
  (void)argc;
  (void)argv;
  exit(3);
}
