// Allocations and frees in a thread's last moments: destructors of pthread keys, of which some run
// after Tally's own, again and again, and of thread_local objects. Everything is counted.
#include "threads.hpp"

namespace {

constexpr int kKeys = 20;
pthread_key_t keys[kKeys];
tally_tag tag, outside;  // of blocks in its scope, and in none
uint64_t freed, rounds, held;

void at_exit(void* value) {
  free(value);
  exercise(1, 50);
  tally_tag_push(tag);
  void* p = malloc(500);
  tally_tag_pop();
  CHECK(tally_tag_of(p) == tag);
  free(p);
  __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
}

// Sets its key again until the C library gives up: the last rounds come after everybody else's.
void again(void* value) {
  if (tally_tag_of(value) == tag) __atomic_fetch_sub(&held, counted_bytes(value), __ATOMIC_RELAXED);
  free(value);
  __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
  void* next = tally_malloc(tag, 100);
  __atomic_fetch_add(&held, counted_bytes(next), __ATOMIC_RELAXED);
  pthread_setspecific(keys[0], next);
  // A thread past its end may be refused a scope, but must be told, and its malloc works.
  const bool in_scope = tally_tag_push(tag) == 0;
  void* p = malloc(10);
  CHECK(tally_tag_of(p) == (in_scope ? tag : outside));
  if (in_scope) CHECK(tally_tag_pop() == 0);
  free(p);
}

struct Local {
  char* block = new char[300];
  ~Local() {
    delete[] block;
    exercise(2, 50);
    free(malloc(100000));
  }
};
thread_local Local local;

}  // namespace

int main() {
  CHECK_LIVE();
  tag = tally_tag_create("/late");
  void* one = malloc(10);
  outside = tally_tag_of(one);
  free(one);
  CHECK(pthread_key_create(&keys[0], again) == 0);
  for (int i = 1; i < kKeys; i++) CHECK(pthread_key_create(&keys[i], at_exit) == 0);
  constexpr int kThreads = 300;
  for (int i = 0; i < kThreads; i++) {
    auto work = [] {
      local.block[0] = 1;
      for (int k = 0; k < kKeys; k++) {
        if (k % 2) tally_tag_push(tag);
        pthread_setspecific(keys[k], malloc(100 + k * 10));
        if (k % 2) tally_tag_pop();
      }
    };
    Thread a(work), b(work);
    a.join();
    b.join();
  }
  CHECK_OP(freed, ==, 2 * kThreads * (kKeys - 1));
  CHECK_OP(rounds, >=, 2 * kThreads);
  // The last block of each thread's key 0 was never taken back by anybody.
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 2 * kThreads);
  CHECK_OP(stats_of(tag).own.live_bytes, ==, held);
  CHECK_OP(rss_bytes(), <, 40 << 20);
  return 0;
}
