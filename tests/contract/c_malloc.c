/* The malloc family and threads, or with the argument `fork` that, from C alone: what a C library
 * without a C++ runtime can be tested with. The programs in C++ beside this one go further. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "check.h"

static const int kErrno = 7777; /* no error's number: whoever changes errno is seen */

static unsigned next_random(unsigned* state) {
  *state = *state * 1103515245u + 12345u;
  return *state >> 8;
}

/* Sizes of every sort of block, small ones the most often. */
static size_t random_size(unsigned* state) {
  static const size_t kTops[] = {64, 64, 512, 4096, 40000, 300000, 3000000};
  return next_random(state) % kTops[next_random(state) % (sizeof kTops / sizeof *kTops)];
}

static void fill(void* p, size_t n, unsigned seed) {
  unsigned char* at = p;
  for (size_t i = 0; i < n; i += i < 64 ? 1 : 61) at[i] = (unsigned char)(seed + i);
}

static int is_filled(const void* p, size_t n, unsigned seed) {
  const unsigned char* at = p;
  for (size_t i = 0; i < n; i += i < 64 ? 1 : 61) {
    if (at[i] != (unsigned char)(seed + i)) return 0;
  }
  return 1;
}

static void test_sizes(void) {
  for (size_t n = 0; n < 5000000; n += 1 + n / 5) {
    errno = kErrno;
    char* p = malloc(n);
    CHECK(p != NULL && (uintptr_t)p % 16 == 0 && errno == kErrno);
    CHECK(malloc_usable_size(p) >= n);
    memset(p, 0xa5, malloc_usable_size(p));
    free(p);
    char* zeros = calloc(1, n);
    CHECK(zeros != NULL && errno == kErrno);
    for (size_t i = 0; i < n; i++) CHECK(zeros[i] == 0);
    free(zeros);
    CHECK(errno == kErrno);
  }
}

static void test_refusals(void) {
  const size_t kSizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 65536, (size_t)PTRDIFF_MAX + 1,
                           (size_t)1 << 62};
  char* kept = malloc(100);
  fill(kept, 100, 1);
  for (size_t i = 0; i < sizeof kSizes / sizeof *kSizes; i++) {
    const size_t n = opaque(kSizes[i]);
    errno = 0;
    CHECK(malloc(n) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(n / 2, 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(realloc(kept, n) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(memalign(64, n) == NULL && errno == ENOMEM);
    void* untouched = &untouched;
    CHECK(posix_memalign(&untouched, 64, n) == ENOMEM && untouched == &untouched);
  }
  CHECK(is_filled(kept, 100, 1));
  free(kept);
  errno = 0;
  CHECK(aligned_alloc(opaque(24), 100) == NULL && errno == EINVAL);
}

static void test_alignments(void) {
  for (size_t alignment = sizeof(void*); alignment <= (size_t)1 << 24; alignment *= 2) {
    for (size_t n = 1; n < 1000000; n = n * 7 + 1) {
      void* p = NULL;
      CHECK(posix_memalign(&p, alignment, n) == 0 && (uintptr_t)p % alignment == 0);
      fill(p, n, (unsigned)n);
      void* q = aligned_alloc(alignment, n);
      CHECK(q != NULL && (uintptr_t)q % alignment == 0);
      fill(q, n, 3);
      CHECK(is_filled(p, n, (unsigned)n));
      free(p);
      free(q);
    }
  }
}

static void test_realloc(void) {
  unsigned state = 1;
  size_t n = 10;
  char* p = realloc(NULL, n);
  CHECK(p != NULL);
  fill(p, n, 9);
  for (int i = 0; i < 2000; i++) {
    const size_t wanted = random_size(&state) + 1;
    p = realloc(p, wanted);
    CHECK(p != NULL && is_filled(p, n < wanted ? n : wanted, 9));
    fill(p, wanted, 9);
    n = wanted;
  }
  CHECK(realloc(p, 0) == NULL);
}

/* What other functions of the C library return is of this heap too. */
static void test_libcs_blocks(void) {
  char* copy = strdup("a string of which the C library makes a copy");
  CHECK(copy != NULL && tally_tag_of(copy) != TALLY_TAG_NONE);
  free(copy);
  char* text = NULL;
  CHECK(asprintf(&text, "%0*d", 3000, 7) == 3000 && tally_tag_of(text) != TALLY_TAG_NONE);
  free(text);
  char* line = NULL;
  size_t capacity = 0;
  FILE* file = fopen("/proc/self/maps", "r");
  CHECK(file != NULL && getline(&line, &capacity, file) > 0);
  CHECK(tally_tag_of(line) != TALLY_TAG_NONE);
  free(line);
  fclose(file);
}

/* Threads that take blocks out of common places, look at what is in them, and put new ones there:
 * most are freed by another thread than theirs. */
enum { kThreads = 4, kPlaces = 64, kSteps = 1000 };
struct block {
  size_t size;
  unsigned seed;
};
static struct block* places[kPlaces];
static tally_tag tags[kThreads];

static struct block* make_block(unsigned* state) {
  const size_t size = sizeof(struct block) + random_size(state);
  struct block* block = malloc(size);
  CHECK(block != NULL);
  *block = (struct block){size, next_random(state)};
  fill(block + 1, size - sizeof *block, block->seed);
  return block;
}

static void drop_block(struct block* block) {
  if (block == NULL) return;
  CHECK(is_filled(block + 1, block->size - sizeof *block, block->seed));
  free(block);
}

static void* swap_blocks(void* arg) {
  const size_t self = (size_t)arg;
  unsigned state = (unsigned)self + 1;
  CHECK(tally_tag_push(tags[self % kThreads]) == 0);
  for (int i = 0; i < kSteps; i++) {
    struct block* mine = make_block(&state);
    drop_block(__atomic_exchange_n(&places[next_random(&state) % kPlaces], mine, __ATOMIC_ACQ_REL));
  }
  CHECK(tally_tag_pop() == 0);
  return NULL;
}

static void start(pthread_t* threads) {
  for (size_t i = 0; i < kThreads; i++) {
    CHECK(pthread_create(&threads[i], NULL, swap_blocks, (void*)i) == 0);
  }
}

static void join(const pthread_t* threads) {
  for (size_t i = 0; i < kThreads; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void make_tags(void) {
  for (size_t i = 0; i < kThreads; i++) {
    char name[16];
    snprintf(name, sizeof name, "c/thread%zu", i);
    tags[i] = tally_tag_create(name);
    CHECK(tags[i] != TALLY_TAG_NONE);
  }
}

static void test_threads(void) {
  pthread_t threads[kThreads];
  for (int round = 0; round < 2; round++) {
    start(threads);
    join(threads);
  }
  for (size_t i = 0; i < kPlaces; i++) {
    drop_block(places[i]);
    places[i] = NULL;
  }
  for (size_t i = 0; i < kThreads; i++) {
    const tally_stats_t stats = stats_of(tags[i]);
    CHECK_OP(stats.own.live_blocks, ==, 0);
    CHECK_OP(stats.own.live_bytes, ==, 0);
    CHECK_OP(stats.own.alloc_count, ==, stats.own.free_count);
  }
}

/* A child may do with all blocks what its parent could, and start threads. Those of the parent run
 * on meanwhile. */
static void test_fork(void) {
  pthread_t threads[kThreads], childs;
  void* before[100];
  unsigned state = 5;
  for (size_t i = 0; i < 100; i++) before[i] = malloc(random_size(&state));
  for (int round = 0; round < 5; round++) {
    start(threads);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      for (size_t i = 0; i < 100; i++) free(before[i]);
      for (size_t i = 0; i < kPlaces; i++) places[i] = NULL;
      CHECK(pthread_create(&childs, NULL, swap_blocks, NULL) == 0);
      CHECK(pthread_join(childs, NULL) == 0);
      free(malloc(1 << 20));
      _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    join(threads);
  }
  for (size_t i = 0; i < 100; i++) free(before[i]);
}

int main(int argc, char** argv) {
  CHECK_LIVE();
  make_tags();
  if (argc > 1 && strcmp(argv[1], "fork") == 0) {
    test_fork();
    return 0;
  }
  test_sizes();
  test_refusals();
  test_alignments();
  test_realloc();
  test_libcs_blocks();
  test_threads();
  tally_trim();
  return 0;
}
