// 180 MB in blocks of 1,000 bytes, allocated by four threads and freed by others, go back to the
// system: at once by malloc_trim, or "decay" within 3 s, by and by, while the program does other
// things, or "thread" likewise by the recorder's thread while it does nothing. "idle": most of what
// a program with a peak frees is back with its last free.
#include <dirent.h>
#include <fcntl.h>
#include <time.h>
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

uint64_t now_us() {
  timespec now;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// A thread of the process beside this one; 0: there is none.
int other_thread() {
  int found = 0;
  DIR* threads = opendir("/proc/self/task");
  CHECK(threads != nullptr);
  while (const dirent* each = readdir(threads)) {
    const int thread = atoi(each->d_name);
    if (thread != 0 && thread != getpid()) found = thread;
  }
  closedir(threads);
  return found;
}

// It runs, or would if it had a processor. Does not allocate.
bool is_ready(int thread) {
  char text[100] = "";
  snprintf(text, sizeof text, "/proc/self/task/%d/stat", thread);
  const int fd = open(text, O_RDONLY);
  CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
  close(fd);
  return strstr(text, ") R ") != nullptr;
}

// What is above `enough` must be back within 3 s. A busy machine has as much longer as it let this
// thread sleep beyond what was asked, or did not let the other do what it was ready for.
void wait_for_memory(size_t enough, bool allocate) {
  constexpr uint64_t kPromisedUs = 3'000'000, kStepUs = 10'000;
  const int other = other_thread();
  CHECK((other != 0) != allocate);
  const uint64_t begun = now_us();
  uint64_t took = 0, held_up = 0;
  for (size_t i = 0; rss_bytes() > enough; i++) {
    if (allocate) free(malloc(opaque(i % 50 * 40)));
    const uint64_t asleep = now_us();
    usleep(kStepUs);
    const uint64_t slept = now_us() - asleep;
    held_up += !allocate && is_ready(other) ? slept : slept - kStepUs;
    took = now_us() - begun;
    CHECK_OP(took, <, kPromisedUs + held_up);
  }
  dprintf(1, "back after %lu ms, of %lu at most\n", took / 1000, (kPromisedUs + held_up) / 1000);
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
  // By any thread that passes by on its own business, or by the recorder's while this one sleeps.
  const bool decay = argc > 1 && strcmp(argv[1], "decay") == 0;
  if (decay || (argc > 1 && strcmp(argv[1], "thread") == 0)) {
    wait_for_memory(before + 5'000'000, decay);
    return 0;
  }
  malloc_trim(0);
  CHECK_OP(rss_bytes(), <, before + 5'000'000);
  return 0;
}
