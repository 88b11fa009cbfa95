/* fork, where a handler of a library (fork_waits_library.c) waits for a thread that allocates. */
#include <sys/wait.h>

#include "check.h"

void start_worker(void);

int main(void) {
  CHECK_LIVE();
  start_worker();
  for (int i = 0; i < 50; i++) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(20);
      /* Whose handlers run in turn. */
      const pid_t grandchild = i % 10 == 0 ? fork() : -1;
      free(malloc(100));
      int status = 0;
      if (grandchild > 0) CHECK(waitpid(grandchild, &status, 0) == grandchild);
      _exit(status == 0 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return 0;
}
