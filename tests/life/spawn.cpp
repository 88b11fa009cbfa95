// vfork, posix_spawn, system and popen from threads, while others allocate.
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

// Each in turn, by several threads at once.
void start_children() {
  char* const arguments[] = {const_cast<char*>("true"), nullptr};
  for (int i = 0; i < 10; i++) {
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
    exercise(3, 200);
  }
}

}  // namespace

int main() {
  CHECK_LIVE();
  auto work = [] {
    while (!stop) exercise(1, 300);
  };
  Thread a(work), b(work);
  Thread c(start_children), d(start_children);
  start_children();
  c.join(), d.join();
  stop = true;
  a.join(), b.join();
  exercise(2);
  return 0;
}
