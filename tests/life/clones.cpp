// Children that libc does not know of, or hardly: a raw clone, and those that run in our memory and
// with our thread's state until they exec (as vfork and posix_spawn make them). They allocate and
// free there, and leave blocks; other threads allocate meanwhile. The counts go on as if the parent
// had done it.
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "threads.hpp"

namespace {

tally_tag tag;
void* left_behind;

void expect_success(pid_t pid) {
  int status;
  CHECK(pid > 0 && waitpid(pid, &status, __WALL) == pid);
  CHECK_OP(status, ==, 0);
}

int in_our_memory(void*) {
  exercise(1);
  free(malloc(20 << 20));
  left_behind = tally_malloc(tag, 1000);
  fill(left_behind, 1000, 5);
  tally_tag_retire(tally_tag_create("/clones/brief"));
  return 0;
}

void expect_left_behind() {
  CHECK(is_filled(left_behind, 1000, 5));
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 1);
  free(left_behind);
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 0);
}

void share_memory(int flags) {
  alignas(16) static char stack[256 << 10];
  expect_success(clone(in_our_memory, stack + sizeof stack, flags | SIGCHLD, nullptr));
  expect_left_behind();
}

void copy_memory() {
  void* before = malloc(3000);
  fill(before, 3000, 6);
  const long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    CHECK(is_filled(before, 3000, 6));
    free(before);
    in_our_memory(nullptr);
    expect_left_behind();
    _exit(0);
  }
  expect_success(static_cast<pid_t>(pid));
  CHECK(is_filled(before, 3000, 6));
  free(before);
}

}  // namespace

int main() {
  CHECK_LIVE();
  alarm(100);
  tag = tally_tag_create("/clones");
  for (int i = 0; i < 20; i++) {
    copy_memory();
    // The parent waits, as the thread's state is one.
    share_memory(CLONE_VM);
    share_memory(CLONE_VM | CLONE_VFORK);
    share_memory(CLONE_VM | CLONE_FS | CLONE_FILES);
  }
  volatile bool stop = false;
  auto work = [&] {
    while (!stop) exercise(3, 300);
  };
  Thread a(work), b(work);
  for (int i = 0; i < 40; i++) share_memory(CLONE_VM | (i % 2 ? CLONE_VFORK : 0));
  stop = true;
  a.join(), b.join();
  return 0;
}
