// A signal handler that allocates, as programs wrongly do, in the midst of malloc. Where it asks
// for other sizes than whom it interrupts, nothing of that may show: neither hangs, all keeps its
// content, all is given back. (Of one size two may get the same block: docs/RELIABILITY.md.)
#include <malloc.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "threads.hpp"

namespace {

constexpr int kTicks = 500, kHeld = 40;
constexpr size_t kLeast = 1024, kMost = 30000;  // of the handler

// Blocks of the handlers of one thread.
struct Held {
  void* p;
  size_t size;
};
thread_local Held held[kHeld];
thread_local uint32_t ticks;
volatile sig_atomic_t all_ticks;

size_t size_of(uint32_t tick) { return kLeast + tick * 7919 % (kMost - kLeast); }

void on_tick(int) {
  const int error = errno;
  all_ticks = all_ticks + 1;
  const uint32_t tick = ticks++;
  Held& one = held[tick * 31 % kHeld];
  if (one.p != nullptr) CHECK(is_filled(one.p, one.size, 1));
  const size_t size = size_of(tick);
  if (tick % 3 == 0) {
    one.p = realloc(one.p, size);
  } else {
    free(one.p);
    one.p = tick % 3 == 1 ? malloc(size) : calloc(1, size);
  }
  CHECK(one.p != nullptr);
  one.size = size;
  fill(one.p, size, 1);
  void* p = realloc(malloc(size_of(tick * 5)), size_of(tick * 11));
  CHECK(malloc_usable_size(p) >= size_of(tick * 11));
  free(p);
  errno = error;
}

// Steps that take locks, of small sizes and of large ones.
void work() {
  constexpr int kBlocks = 300;
  Held blocks[kBlocks];
  for (uint32_t round = 0; all_ticks < kTicks; ++round) {
    for (int i = 0; i < kBlocks; ++i) {
      const size_t size = i == 0 ? 200000 + round % 7 * 100000 : 16 + i * 13 % 500;
      blocks[i] = {malloc(size), size};
      CHECK(blocks[i].p != nullptr);
      fill(blocks[i].p, size, 2);
    }
    for (const Held& block : blocks) {
      CHECK(is_filled(block.p, block.size, 2));
      free(block.p);
    }
  }
}

void mask(int how) {
  sigset_t tick;
  sigemptyset(&tick);
  sigaddset(&tick, SIGALRM);
  CHECK(pthread_sigmask(how, &tick, nullptr) == 0);
}

void give_back() {
  mask(SIG_BLOCK);
  for (Held& one : held) {
    if (one.p != nullptr) CHECK(is_filled(one.p, one.size, 1));
    free(one.p);
    one.p = nullptr;
  }
}

void expect_survival(int threads) {
  all_ticks = 0;
  itimerval often = {{0, 500}, {0, 500}};
  CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  auto both = [] {
    mask(SIG_UNBLOCK);
    work();
    give_back();
  };
  if (threads == 1) {
    both();
  } else {
    Thread a(both), b(both);
    a.join();
    b.join();
  }
  often = {};
  CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
}

void handle(void (*on_signal)(int)) {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
}

// A fork waits for the locks of others, some of them in hand. (With libc's malloc such a program
// stops; and so it does here where a handler frees in the midst of libc's part of the fork what it
// had from libc.)
void expect_survival_of_forks() {
  constexpr int kForks = 60, kSmall = 400000, kStays = 500;
  static void* blocks[kSmall];
  static volatile bool has_ended = false;
  auto trim = [] {
    while (!has_ended) {
      for (void*& each : blocks) each = each != nullptr ? each : malloc(100);
      for (int j = 0; j < kSmall; j++) {
        if (j % kStays == 0) continue;
        free(blocks[j]);
        blocks[j] = nullptr;
      }
      malloc_trim(0);
    }
    for (void* each : blocks) free(each);
  };
  handle([](int) {
    const int error = errno;
    all_ticks = all_ticks + 1;
    void* own[40];
    for (void*& each : own) {
      each = malloc(3000);
      CHECK(each != nullptr);
      fill(each, 3000, 1);
    }
    for (void* each : own) free(each);
    errno = error;
  });
  Thread other(trim);
  auto forks = [] {
    mask(SIG_UNBLOCK);
    for (int i = 0; i < kForks; i++) {
      const pid_t pid = fork();
      if (pid == 0) {
        free(malloc(1000));
        _exit(0);
      }
      int status;
      CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    mask(SIG_BLOCK);
  };
  itimerval often = {{0, 2000}, {0, 2000}};
  CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  Thread forking(forks);
  forking.join();
  often = {};
  CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  has_ended = true;
  other.join();
}

}  // namespace

int main() {
  CHECK_LIVE();
  const uint64_t before = stats_of(TALLY_TAG_ROOT).total.live_blocks;
  handle(on_tick);
  expect_survival(1);
  expect_survival(2);
  expect_survival_of_forks();
  CHECK_OP(stats_of(TALLY_TAG_ROOT).total.live_blocks, <=, before + 2);
  return 0;
}
