// 15,000 threads one after another, a few at a time, each allocating and leaving a block to the
// next: memory does not grow, and every block is counted.
#include "threads.hpp"

int main() {
  CHECK_LIVE();
  const tally_tag tag = tally_tag_create("/threads");
  constexpr int kThreads = 15000, kAtOnce = 5;
  static void* left[kAtOnce];
  uint64_t allocated = 0;
  size_t rss = 0;
  for (int i = 0; i < kThreads; i += kAtOnce) {
    int index = 0;
    auto work = [&] {
      const int mine = __atomic_fetch_add(&index, 1, __ATOMIC_RELAXED);
      tally_tag_push(tag);
      free(left[mine]);
      void* blocks[10];
      for (int k = 0; k < 10; k++) blocks[k] = malloc(20 + k * 100);
      for (void* p : blocks) free(p);
      left[mine] = malloc(300);
      tally_tag_pop();
    };
    Thread a(work), b(work), c(work), d(work), e(work);
    a.join(), b.join(), c.join(), d.join(), e.join();
    allocated += kAtOnce * 11;
    if (i == 500) rss = rss_bytes();
  }
  const tally_counts counts = stats_of(tag).own;
  CHECK_OP(counts.alloc_count, ==, allocated);
  CHECK_OP(counts.live_blocks, ==, kAtOnce);
  CHECK_OP(rss_bytes(), <, rss + (8 << 20));
  for (void* p : left) free(p);
  CHECK_OP(stats_of(tag).own.live_bytes, ==, 0);
  return 0;
}
