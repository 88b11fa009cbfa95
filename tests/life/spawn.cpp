// vfork, posix_spawn, system and popen from a program whose threads allocate.
#include <spawn.h>
#include <sys/wait.h>

#include "threads.hpp"

extern char** environ;

namespace {
volatile bool stop;

void expect_success(pid_t pid) {
  int status;
  CHECK(pid > 0);
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
}  // namespace

int main() {
  CHECK_LIVE();
  auto work = [] {
    while (!stop) exercise(1, 300);
  };
  Thread a(work), b(work);
  char* const arguments[] = {const_cast<char*>("true"), nullptr};
  for (int i = 0; i < 25; i++) {
    const pid_t pid = vfork();
    if (pid == 0) {
      execv("/bin/true", arguments);
      _exit(127);
    }
    expect_success(pid);
    pid_t spawned;
    CHECK(posix_spawn(&spawned, "/bin/true", nullptr, nullptr, arguments, environ) == 0);
    expect_success(spawned);
    CHECK(system("exit 0") == 0);
    FILE* pipe = popen("echo tally", "r");
    CHECK(pipe != nullptr);
    char line[16] = "";
    CHECK(fgets(line, sizeof line, pipe) != nullptr && strcmp(line, "tally\n") == 0);
    CHECK(pclose(pipe) == 0);
  }
  stop = true;
  a.join(), b.join();
  exercise(2);
  return 0;
}
