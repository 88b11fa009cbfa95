// fork in a signal handler that came in the middle of malloc. The child goes on where the program
// was, ends that step and more; or ends in the handler, as most do. With one thread, as POSIX has
// it; and with several, of whom any may be in the middle of any step.
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "threads.hpp"

namespace {

volatile int forks;
volatile bool is_child, returns;

void expect_success(pid_t pid) {
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (status != 0) dprintf(2, "a child of a handler ended with status %x\n", status);
  CHECK(status == 0);
}

void on_tick(int) {
  const int error = errno;
  if (is_child) return;
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    is_child = true;
    alarm(60);
    if (!returns) _exit(0);
  } else {
    expect_success(pid);
    forks = forks + 1;
  }
  errno = error;
}

// A step of every kind.
void work(uint64_t seed) {
  exercise(seed, 200);
  free(malloc(10 << 20));
  const tally_tag tag = tally_tag_create(seed % 2 ? "/odd" : "/even");
  free(tally_malloc(tag, 100));
  tally_tag_retire(tag);
  if (seed % 8 == 0) malloc_trim(0);
}

void end_if_child() {
  if (!is_child) return;
  exercise(7);
  malloc_trim(0);
  auto mine = [] { exercise(8); };
  Thread thread(mine);
  thread.join();
  _exit(0);
}

}  // namespace

int main() {
  CHECK_LIVE();
  alarm(240);
  struct sigaction action = {};
  action.sa_handler = on_tick;
  action.sa_flags = SA_RESTART;
  CHECK(sigaction(SIGPROF, &action, nullptr) == 0);
  const itimerval every = {{0, 1000}, {0, 1000}}, never = {};
  returns = true;
  CHECK(setitimer(ITIMER_PROF, &every, nullptr) == 0);
  for (uint64_t seed = 1; forks < 100 && !is_child; seed++) work(seed);
  setitimer(ITIMER_PROF, &never, nullptr);
  end_if_child();

  returns = false;
  volatile bool stop = false;
  forks = 0;
  auto mine = [&] {
    for (uint64_t seed = 1; !stop; seed++) work(seed);
  };
  Thread a(mine), b(mine), c(mine);
  CHECK(setitimer(ITIMER_PROF, &every, nullptr) == 0);
  while (forks < 30) usleep(1000);
  setitimer(ITIMER_PROF, &never, nullptr);
  stop = true;
  a.join(), b.join(), c.join();
  return 0;
}
