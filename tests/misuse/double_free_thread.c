/* A small block freed by another thread, and again by the one that it was allocated by. */
#include <pthread.h>

#include "misuse.h"

static void* free_it(void* p) {
  free(p);
  return NULL;
}

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = tally_malloc(tag, 64);
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(64));
  if (!tally_is_hardened()) {
    EXPECT(
        "tally: free list damaged at %p: a block was freed twice, or a free one was written to "
        "(tag /x, size class 64)\n",
        p);
  }
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, free_it, p) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  free(opaque_pointer(p));
  drive(tag, 64);
  finish(tag);
  return 0;
}
