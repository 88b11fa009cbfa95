// 1,200 threads alive at once, or as many as the argument says, each with a few blocks: what a
// thread costs is bounded. glibc's program needs 17 MB for 1,200, 8 KB of stack each included.
#include "threads.hpp"

namespace {

pthread_barrier_t all_allocated, all_measured;

void* work(void*) {
  void* blocks[20];
  for (int i = 0; i < 20; i++) {
    blocks[i] = malloc(16 << (i % 6));
    memset(blocks[i], 1, 16 << (i % 6));
  }
  pthread_barrier_wait(&all_allocated);
  pthread_barrier_wait(&all_measured);
  for (void* p : blocks) free(p);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  const auto count = static_cast<unsigned>(argc > 1 ? atoi(argv[1]) : 1200);
  pthread_barrier_init(&all_allocated, nullptr, count + 1);
  pthread_barrier_init(&all_measured, nullptr, count + 1);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  auto* threads = new pthread_t[count];
  for (unsigned i = 0; i < count; i++) {
    const int error = pthread_create(&threads[i], &attributes, work, nullptr);
    if (error == EAGAIN) {
      dprintf(1, "no more than %u threads are allowed here\n", i);
      _exit(SKIPPED);
    }
    CHECK_OP(error, ==, 0);
  }
  pthread_barrier_wait(&all_allocated);
  const size_t during = rss_bytes();
  pthread_barrier_wait(&all_measured);
  for (unsigned i = 0; i < count; i++) CHECK(pthread_join(threads[i], nullptr) == 0);
  delete[] threads;
  // 30 MB with 1,200, the program's own included; who asks for samples or tags by module pays for
  // it.
  const bool is_plain = getenv("TALLY_TAG_BY") == nullptr && getenv("TALLY_SAMPLE") == nullptr;
  CHECK_OP(during, <, (is_plain ? size_t{25'000} : size_t{50'000}) * count);
  return 0;
}
