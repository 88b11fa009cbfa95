// RLIMIT_AS runs out: NULL and ENOMEM, bad_alloc with its exception object, the blocks intact; and
// when memory is freed the program goes on. "start": the limit of 128 MiB stands from the first
// instruction.
#include <sys/resource.h>

#include <new>

#include "threads.hpp"

namespace {

void limit_to(size_t bytes) {
  rlimit limit;
  CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = bytes;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

constexpr int kMost = 2'000'000;
void* blocks[kMost];

// Takes blocks of this size until there are no more, then gives all back. Returns how many there
// were.
int exhaust(size_t size) {
  int n = 0;
  for (; n < kMost; n++) {
    errno = 0;
    blocks[n] = malloc(size);
    if (blocks[n] == nullptr) {
      CHECK(errno == ENOMEM);
      break;
    }
    *static_cast<int*>(blocks[n]) = n;
  }
  CHECK(n < kMost);
  errno = 0;
  CHECK(calloc(1, size) == nullptr && errno == ENOMEM);
  if (n > 0) {
    errno = 0;
    CHECK(realloc(blocks[0], 64 << 20) == nullptr && errno == ENOMEM);
  }
  void* p = &p;
  CHECK(posix_memalign(&p, 1 << 20, 64 << 20) == ENOMEM && p == &p);
  bool thrown = false;
  try {
    (void)::operator new(opaque(64 << 20));
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  for (int i = 0; i < n; i++) {
    CHECK(*static_cast<int*>(blocks[i]) == i);
    free(blocks[i]);
  }
  return n;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    limit_to(128 << 20);
    execl("/proc/self/exe", argv[0], "start", nullptr);
    return 1;
  }
  CHECK_LIVE();
  auto work = [] { exercise(1); };
  {
    Thread a(work), b(work), c(work);
    a.join(), b.join(), c.join();
  }
  void* p = malloc(30 << 20);
  CHECK(p != nullptr);
  free(p);

  for (size_t size : {100ul, 3000ul, 50000ul, 3ul << 20}) {
    const int first = exhaust(size);
    CHECK(first > 0);
    // What was given back can be had again, if not by the same class then after a trim.
    const int second = exhaust(size);
    CHECK_OP(second * 2, >=, first);
    malloc_trim(0);
  }
  exercise(2);
  const tally_tag tag = tally_tag_create("/after");
  CHECK(tag != TALLY_TAG_NONE);
  p = tally_malloc(tag, 100);
  CHECK(p != nullptr);
  CHECK(tally_snapshot_json(nullptr, 0) > 0);
  free(p);
  CHECK(stats_of(tag).own.live_blocks == 0);
  {
    Thread a(work), b(work);
    a.join(), b.join();
  }
  return 0;
}
