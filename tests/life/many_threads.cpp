// 1,200 threads alive at once, each with a few blocks: what a thread costs is bounded. glibc needs
// 12 MB for this, and 64 MB are what is left of a small container.
#include "threads.hpp"

int main() {
  CHECK_LIVE();
  constexpr int kThreads = 1200;
  static pthread_barrier_t all_allocated, all_measured;
  pthread_barrier_init(&all_allocated, nullptr, kThreads + 1);
  pthread_barrier_init(&all_measured, nullptr, kThreads + 1);
  const auto work = [] {
    void* blocks[20];
    for (int i = 0; i < 20; i++) {
      blocks[i] = malloc(16 << (i % 6));
      memset(blocks[i], 1, 16 << (i % 6));
    }
    pthread_barrier_wait(&all_allocated);
    pthread_barrier_wait(&all_measured);
    for (void* p : blocks) free(p);
  };
  using Worker = Thread<decltype(work)>;
  const size_t before = rss_bytes();
  static Worker* threads[kThreads];
  for (Worker*& thread : threads) thread = new Worker(work, 64 << 10);
  pthread_barrier_wait(&all_allocated);
  const size_t during = rss_bytes();
  pthread_barrier_wait(&all_measured);
  for (Worker* thread : threads) {
    thread->join();
    delete thread;
  }
  CHECK_OP(during, <, before + (64 << 20));
  return 0;
}
