// Handlers of pthread_atfork that allocate and free, registered before Tally can have had its turn
// and after it.
#include <sys/wait.h>

#include "threads.hpp"

namespace {

int prepared, in_parent, in_child;
void* blocks[2];  // of the two registrations; handlers around a fork nest
int open_blocks;
volatile bool stop;

void prepare() {
  prepared++;
  void* block = malloc(100);
  fill(block, 100, 1);
  blocks[open_blocks++] = block;
  exercise(1, 200);
}
void after() {
  void* block = blocks[--open_blocks];
  CHECK(is_filled(block, 100, 1));
  exercise(2, 200);
  free(block);
}
void parent() {
  in_parent++;
  after();
}
void child() {
  in_child++;
  after();
}

__attribute__((constructor(101))) void first() { pthread_atfork(prepare, parent, child); }

}  // namespace

int main() {
  CHECK_LIVE();
  CHECK(pthread_atfork(prepare, parent, child) == 0);
  auto work = [] {
    while (!stop) exercise(3, 300);
  };
  Thread a(work), b(work);
  for (int i = 0; i < 60; i++) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(20);
      CHECK(in_child == 2);
      exercise(4);
      _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  stop = true;
  a.join(), b.join();
  CHECK_OP(prepared, ==, 120);
  CHECK_OP(in_parent, ==, 120);
  return 0;
}
