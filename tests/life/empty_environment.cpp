// No environment at all, or where it is preloaded nothing but LD_PRELOAD; and no argv[0].
#include <sys/wait.h>

#include "threads.hpp"

extern char** environ;

int main(int argc, char** argv) {
  CHECK_LIVE();
  // Newer kernels make an empty string of a missing argv[0].
  if (argc == 0 || argv[0][0] == 0 || (argc > 1 && strcmp(argv[1], "body") == 0)) {
    exercise(1);
    CHECK(tally_tag_create("/x") != TALLY_TAG_NONE);
    return 0;
  }
  char preload[4096];
  const char* library = getenv("LD_PRELOAD");
  snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library ? library : "");
  char* const only_preload[] = {library ? preload : nullptr, nullptr};
  char body[] = "body";
  for (int form = 0; form < 2; form++) {
    char* const arguments[] = {form ? argv[0] : nullptr, form ? body : nullptr, nullptr};
    const pid_t pid = fork();
    if (pid == 0) {
      execve("/proc/self/exe", arguments, only_preload);
      _exit(1);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  clearenv();
  exercise(2);
  environ = nullptr;
  exercise(3);
  return 0;
}
