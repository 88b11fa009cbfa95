// fork while other threads allocate, 150 times. The child allocates, frees what the parent had,
// makes threads, and forks again; it must neither hang nor crash. alarm ends a child that hangs.
#include <sys/wait.h>

#include "threads.hpp"

namespace {

volatile bool stop;
void* from_parent[500];

void child() {
  alarm(20);
  for (void* p : from_parent) free(p);
  exercise(10);
  auto work = [] { exercise(11); };
  Thread a(work), b(work);
  a.join();
  b.join();
  malloc_trim(0);
  const tally_tag tag = tally_tag_create("/child/only");
  CHECK(tag != TALLY_TAG_NONE);
  void* p = tally_malloc(tag, 100);
  CHECK(stats_of(tag).own.live_blocks == 1);
  free(p);
}

}  // namespace

int main() {
  CHECK_LIVE();
  for (size_t i = 0; i < 500; i++) from_parent[i] = malloc(i * 20);
  auto work = [] {
    for (uint64_t seed = 1; !stop; seed++) {
      exercise(seed, 500);
      // Slow paths of every kind, whose locks fork must not leave taken.
      free(malloc(10 << 20));
      const tally_tag tag = tally_tag_create(seed % 2 ? "/odd/x" : "/even/y");
      free(tally_malloc(tag, 100));
      tally_tag_retire(tag);
      if (seed % 8 == 0) malloc_trim(0);
    }
  };
  Thread a(work), b(work), c(work), d(work);
  for (int i = 0; i < 150; i++) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      child();
      if (i % 10 == 0) {
        const pid_t grandchild = fork();
        if (grandchild == 0) {
          exercise(12);
          _exit(0);
        }
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
      }
      _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  stop = true;
  a.join(), b.join(), c.join(), d.join();
  for (void* p : from_parent) free(p);
  return 0;
}
