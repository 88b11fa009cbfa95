// 180 MB in blocks of 1,000 bytes, allocated by four threads and freed by others, go back to the
// system: at once by malloc_trim, or "decay" by and by, as TALLY_PURGE_MS says, while the program
// does other things, or "thread" by the recorder's thread while it does nothing. "idle": most of
// what a program with a peak frees is back with its last free.
#include <unistd.h>

#include "threads.hpp"

namespace {

constexpr int kThreads = 4, kBlocks = 45000;
void* blocks[kThreads][kBlocks];

void fill_memory() {
  int next = 0;
  auto allocate = [&] {
    for (void*& p : blocks[__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)]) {
      p = malloc(1000);
      CHECK(p != nullptr);
      memset(p, 1, 1000);
    }
  };
  Thread a(allocate), b(allocate), c(allocate), d(allocate);
  a.join(), b.join(), c.join(), d.join();
}

// Two of the threads end, two stay alive until told, so that freed memory is in every kind of
// place.
void free_memory(volatile bool* stop) {
  int next = 0;
  auto release = [&] {
    const int mine = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < kBlocks; i++) free(blocks[(i + mine) % kThreads][i]);
    while (mine % 2 && !*stop) usleep(1000);
  };
  Thread a(release), b(release), c(release), d(release);
  usleep(200000);
  *stop = true;
  a.join(), b.join(), c.join(), d.join();
}

// 300 MB in blocks of 16 to 4,000 bytes, 95 % of them freed at random. Nothing happens after that.
void go_idle() {
  constexpr int kMany = 150000;
  static struct {
    unsigned char* p;
    size_t size;
  } many[kMany];
  const size_t before = rss_bytes();
  Random random(1);
  for (int i = 0; i < kMany; i++) {
    const size_t size = 16 + random.below(3985);
    many[i] = {static_cast<unsigned char*>(malloc(size)), size};
    CHECK(many[i].p != nullptr);
    memset(many[i].p, static_cast<int>(size % 255), size);
  }
  const size_t full = rss_bytes() - before;
  CHECK_OP(full, >, 290'000'000);
  for (int i = kMany - 1; i > 0; i--) {
    const auto other = random.below(static_cast<uint64_t>(i) + 1);
    const auto swapped = many[i];
    many[i] = many[other];
    many[other] = swapped;
  }
  for (int i = kMany / 20; i < kMany; i++) free(many[i].p);
  CHECK_OP(rss_bytes() - before, <, full / 2);
  malloc_trim(0);
  CHECK_OP(rss_bytes() - before, <, full / 3);
  for (int i = 0; i < kMany / 20; i++) {
    for (size_t at = 0; at < many[i].size; at++) CHECK(many[i].p[at] == many[i].size % 255);
    free(many[i].p);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  exercise(1);
  if (argc > 1 && strcmp(argv[1], "idle") == 0) {
    go_idle();
    exercise(3);
    return 0;
  }
  volatile bool stop = false;
  memset(blocks, 0, sizeof blocks);  // its pages are not the heap's affair
  malloc_trim(0);
  const size_t before = rss_bytes();
  fill_memory();
  const size_t full = rss_bytes();
  CHECK_OP(full, >, before + 180'000'000);
  CHECK_OP(full, <, before + 230'000'000);
  free_memory(&stop);
  if (argc > 1 && strcmp(argv[1], "decay") == 0) {
    // Any thread that passes by on its own business does it.
    for (int i = 0; i < 6000 && rss_bytes() > before + 5'000'000; i++) {
      free(malloc(opaque(static_cast<size_t>(i % 50 * 40))));
      usleep(10000);
    }
    CHECK_OP(rss_bytes(), <, before + 5'000'000);
    return 0;
  }
  if (argc > 1 && strcmp(argv[1], "thread") == 0) {
    // The recorder's does, and this program sleeps.
    for (int i = 0; i < 6000 && rss_bytes() > before + 5'000'000; i++) usleep(10000);
    CHECK_OP(rss_bytes(), <, before + 5'000'000);
    return 0;
  }
  malloc_trim(0);
  CHECK_OP(rss_bytes(), <, before + 5'000'000);
  return 0;
}
