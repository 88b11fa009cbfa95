// The system as the tests want it: calls for memory that fail when told, a clock that stands still,
// and pages of TALLY_TEST_PAGE bytes, if the environment has that. The linker (--wrap) sends the
// core's calls of os::map and its like here; unless told otherwise they go on to the real ones, but
// a call for what is not whole pages ends the test.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace tally::fake_os {

enum Call : unsigned {
  kMap = 1,
  kUnmap = 2,
  kPurge = 4,
  kRemap = 8,
  kMapAt = 16,
  kWriteAt = 32,
  kAll = 63
};

// Of the calls in `which`, from here on, the first `skip` succeed, the next `count` fail, the
// others succeed.
void fail(unsigned which, uint64_t skip, uint64_t count = UINT64_MAX);
void fail_none();
// Of kWriteAt; ENOSPC unless told otherwise.
void set_write_error(int error);
// Called before the n-th write from here on, once.
void before_write(uint64_t nth, void (*function)());
// Likewise, before the n-th purge, and on its thread.
void before_purge(uint64_t nth, void (*function)());
// Calls in `which` since the last fail() or fail_none(), failed or not.
uint64_t calls();

// From the first call on, the clock shows what it was set to.
void set_clock(uint64_t ms);
void advance_clock(uint64_t ms);
// The exact clocks are ahead by so much.
void skip_time(uint64_t ns);

// The process as a child of fork finds it that comes before the n-th purge of a thread which runs
// `purge`: calls look() there, whose result is the child's exit status. `within`: the thread that
// purges forks, as a signal handler of its may, and look() comes when the child has ended that
// purge; else another thread forks. Returns the status; -1: there was no such purge.
template <class Purge, class Look>
int look_beside_purge(uint64_t nth, bool within, Purge purge, Look look) {
  static std::atomic<bool> is_there, is_done;
  static pid_t child;
  is_there = is_done = false;
  child = -1;
  before_purge(
      nth, within ? [] { child = fork(); } : [] {
        is_there = true;
        while (!is_done) std::this_thread::yield();
      });
  std::atomic<bool> has_ended{false};
  std::thread other([&] {
    purge();
    if (within && child == 0) _exit(look());
    has_ended = true;
  });
  while (!within && !is_there && !has_ended) std::this_thread::yield();
  if (is_there) {
    child = fork();
    if (child == 0) _exit(look());
  }
  is_done = true;
  other.join();
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

// For one scope.
class Failing {
 public:
  explicit Failing(unsigned which, uint64_t skip = 0, uint64_t count = UINT64_MAX) {
    fail(which, skip, count);
  }
  ~Failing() { fail_none(); }
  Failing(const Failing&) = delete;
  Failing& operator=(const Failing&) = delete;
};

}  // namespace tally::fake_os
