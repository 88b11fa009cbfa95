// The ways in which a program ends while its threads allocate: each of them by name as the
// argument, the exit status is the program's own.
#include <sys/wait.h>

#include "threads.hpp"

namespace {

void detach_workers() {
  for (int i = 0; i < 3; i++) {
    pthread_t id;
    CHECK(pthread_create(
              &id, nullptr,
              [](void*) -> void* {
                for (;;) exercise(1, 300);
              },
              nullptr) == 0);
    pthread_detach(id);
  }
  usleep(20000);
}

void late() { exercise(2); }

int end(const char* how) {
  atexit(late);
  at_quick_exit(late);
  detach_workers();
  if (strcmp(how, "return") == 0) return 7;
  if (strcmp(how, "exit") == 0) exit(7);
  if (strcmp(how, "_exit") == 0) _exit(7);
  if (strcmp(how, "quick_exit") == 0) quick_exit(7);
  if (strcmp(how, "exit_in_thread") == 0) {
    auto work = [] { exit(7); };
    Thread thread(work);
    thread.join();
  }
  return 1;
}

// main ends first; the process lives as long as its last thread.
void main_ends_first() {
  pthread_t id;
  CHECK(pthread_create(
            &id, nullptr,
            [](void*) -> void* {
              usleep(50000);
              exercise(3);
              exit(7);
            },
            nullptr) == 0);
  void* p = malloc(100);
  free(p);
  pthread_exit(nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    CHECK_LIVE();
    if (strcmp(argv[1], "pthread_exit") == 0) main_ends_first();
    return end(argv[1]);
  }
  for (const char* how :
       {"return", "exit", "_exit", "quick_exit", "exit_in_thread", "pthread_exit"}) {
    for (int i = 0; i < 10; i++) {
      const pid_t pid = fork();
      if (pid == 0) {
        alarm(20);
        execl("/proc/self/exe", argv[0], how, nullptr);
        _exit(1);
      }
      int status;
      CHECK(waitpid(pid, &status, 0) == pid);
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
        dprintf(2, "%s: status %x\n", how, status);
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
  }
  return 0;
}
