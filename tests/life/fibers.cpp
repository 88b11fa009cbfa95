// Fibers that change threads between malloc and free: a thread's pointer that the compiler kept
// across the switch would charge the wrong thread's lists. Tag scopes are the thread's, not the
// fiber's.
#include <ucontext.h>

#include "threads.hpp"

namespace {

constexpr int kFibers = 8, kRounds = 2000;

struct Fiber {
  ucontext_t context, back;
  alignas(16) char stack[64 << 10];
  int rounds = 0;
  bool done = false;
};
Fiber fibers[kFibers];

void body(int index) {
  Fiber& self = fibers[index];
  for (; self.rounds < kRounds; self.rounds++) {
    void* p = malloc(50 + index);
    void* q = malloc(2000);
    fill(p, 50, index);
    swapcontext(&self.context, &self.back);  // goes on in another thread
    CHECK(is_filled(p, 50, index));
    p = realloc(p, 300);
    CHECK(is_filled(p, 50, index));
    free(q);
    swapcontext(&self.context, &self.back);
    free(p);
  }
  self.done = true;
  swapcontext(&self.context, &self.back);
}

}  // namespace

int main() {
  CHECK_LIVE();
  const tally_counts before = stats_of(TALLY_TAG_ROOT).own;
  for (int i = 0; i < kFibers; i++) {
    CHECK(getcontext(&fibers[i].context) == 0);
    fibers[i].context.uc_stack.ss_sp = fibers[i].stack;
    fibers[i].context.uc_stack.ss_size = sizeof fibers[i].stack;
    makecontext(&fibers[i].context, reinterpret_cast<void (*)()>(body), 1, i);
  }
  static pthread_barrier_t turn;
  constexpr int kThreads = 2;
  pthread_barrier_init(&turn, nullptr, kThreads);
  int next = 0;
  auto work = [&] {
    const int mine = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
    for (int step = 0; step < 2 * kRounds + 1; step++) {
      for (int i = 0; i < kFibers; i++) {
        if ((i + step) % kThreads == mine) swapcontext(&fibers[i].back, &fibers[i].context);
      }
      pthread_barrier_wait(&turn);
    }
  };
  {
    Thread a(work), b(work);
    a.join(), b.join();
  }
  for (const Fiber& fiber : fibers) CHECK(fiber.done);
  CHECK_OP(stats_of(TALLY_TAG_ROOT).own.live_blocks, <=, before.live_blocks + 8);
  return 0;
}
