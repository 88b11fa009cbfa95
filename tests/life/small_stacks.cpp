// Threads with the smallest stack there may be run every path of the family: slow paths must not
// need much of it.
#include <limits.h>

#include "threads.hpp"

int main() {
  CHECK_LIVE();
  const tally_tag tag = tally_tag_create("/small/stacks");
  auto work = [&] {
    void* p = malloc(100);
    void* q = calloc(10, 1000);
    void* r = malloc(5 << 20);
    r = realloc(r, 40 << 20);
    void* s = aligned_alloc(1 << 20, 1 << 20);
    CHECK(p && q && r && s);
    const tally_tag mine = tally_tag_create("/small/stacks/and/deeper");
    CHECK(tally_tag_push(mine) == 0);
    void* t = malloc(3000);
    tally_tag_pop();
    CHECK(tally_tag_of(t) == mine);
    CHECK(stats_of(mine).own.live_blocks >= 1);
    for (void* each : {p, q, r, s, t}) free(each);
    malloc_trim(0);
    tally_tag_retire(mine);
    CHECK(tally_malloc(tag, opaque(PTRDIFF_MAX)) == nullptr);
  };
  for (int i = 0; i < 50; i++) {
    Thread a(work, static_cast<size_t>(PTHREAD_STACK_MIN));
    a.join();
  }
  return 0;
}
