/* A write far into a long block of another thread's, which was freed and is not used again. */
#include <pthread.h>

#include "misuse.h"

static char* p;

static void* allocate(void* tag) {
  p = tally_malloc(*(tally_tag*)tag, 5000);
  return NULL;
}

int main(void) {
  tally_tag tag = misuse_tag();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, allocate, &tag) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  EXPECT_AT_END(
      "tally: use after free: %p was written to, 4000 bytes into block %p (tag /x, size class %zu)",
      p + 4000, p, class_of(5000));
  tally_free(tally_malloc(tag, 64)); /* so that this thread has the tag's, too */
  free(p);
  ((char*)opaque_pointer(p))[4000] = 'x';
  dprintf(1, "finished\n");
  return 0;
}
