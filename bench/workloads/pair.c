/* For instructions.py, under callgrind: pairs of malloc(16) and free.
 *
 *   bench_pair COUNT            the calls of malloc and free from run_pairs are what is counted
 *   bench_pair COUNT TAGS       each malloc in the scope of the next of so many tags, each free
 * outside of it */
#include "../allocator_check.h"

typedef unsigned (*TagCreate)(const char*);
typedef int (*TagPush)(unsigned);
typedef int (*TagPop)(void);

__attribute__((noinline)) static void run_pairs(long count) {
  for (long i = 0; i < count; ++i) {
    void* block = malloc(16);
    __asm__ volatile("" : "+r"(block) : : "memory");
    free(block);
  }
}

__attribute__((noinline)) static void run_pairs_tagged(long count, int tags) {
  unsigned ids[64];
  TagCreate create = (TagCreate)dlsym(RTLD_DEFAULT, "tally_tag_create");
  TagPush push = (TagPush)dlsym(RTLD_DEFAULT, "tally_tag_push");
  TagPop pop = (TagPop)dlsym(RTLD_DEFAULT, "tally_tag_pop");
  if (create == NULL || push == NULL || pop == NULL || tags > 64) {
    fprintf(stderr, "bench_pair: tags need Tally, and may be 64 at most\n");
    exit(2);
  }
  for (int i = 0; i < tags; ++i) {
    char path[32];
    snprintf(path, sizeof path, "pair/%d", i);
    ids[i] = create(path);
  }
  for (long i = 0; i < count; ++i) {
    push(ids[i % tags]);
    void* block = malloc(16);
    __asm__ volatile("" : "+r"(block) : : "memory");
    pop();
    free(block);
  }
}

int main(int argc, char** argv) {
  require_allocator_from_environment();
  if (argc < 2) {
    fprintf(stderr, "usage: bench_pair COUNT [TAGS]\n");
    return 2;
  }
  long count = atol(argv[1]);
  int tags = argc > 2 ? atoi(argv[2]) : 0;
  /* Neighbours that stay, as in a real program: a slab that empties at every free is another case.
   */
  for (int i = 0; i < 100; ++i) {
    void* kept = malloc(16);
    __asm__ volatile("" : : "r"(kept) : "memory");
  }
  if (tags > 0) {
    run_pairs_tagged(count, tags);
  } else {
    run_pairs(count);
  }
  return 0;
}
