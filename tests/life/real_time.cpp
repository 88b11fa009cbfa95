// Threads with real-time priority and one that only runs where nobody else wants to, all on one
// processor, in each other's way: who waits for a lock must let its holder run, or nothing goes on.
#include <sched.h>

#include "threads.hpp"

namespace {

volatile bool stop;

void become(int policy, int priority) {
  const sched_param param = {priority};
  if (pthread_setschedparam(pthread_self(), policy, &param) != 0) {
    dprintf(1, "no real-time priorities here\n");
    _exit(SKIPPED);
  }
}

// Blocks change hands between the threads, so that they meet at each other's locks.
void* handed[64];

void trade(uint64_t seed) {
  Random random(seed);
  for (int i = 0; i < 300; i++) {
    void* mine = malloc(1 + random.below(4000));
    CHECK(mine != nullptr);
    free(__atomic_exchange_n(&handed[random.below(64)], mine, __ATOMIC_ACQ_REL));
  }
  free(malloc(2 << 20));
  const tally_tag tag = tally_tag_create("/real/time");
  free(tally_malloc(tag, 100));
  if (seed % 16 == 0) {
    malloc_trim(0);
    tally_snapshot_free(tally_snapshot());
  }
}

}  // namespace

int main() {
  CHECK_LIVE();
  alarm(100);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  int rounds = 0;
  auto low = [] {
    become(SCHED_IDLE, 0);
    for (uint64_t seed = 1; !stop; seed++) trade(seed);
  };
  auto high = [&] {
    become(SCHED_FIFO, 50);
    for (uint64_t seed = 1; seed <= 150; seed++) {
      trade(seed);
      usleep(500);  // the others' turn, in the middle of whatever they do
    }
    __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
  };
  Thread a(low), b(low);
  Thread c(high), d(high);
  c.join(), d.join();
  stop = true;
  a.join(), b.join();
  CHECK_OP(rounds, ==, 2);
  for (void* p : handed) free(p);
  return 0;
}
