/* A pointer into a small block is freed, by a program that allocates no more. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  EXPECT_AT_END("tally: free of %p, inside a block that starts at %p (tag /x, size class %zu)",
                p + 8, p, class_of(64));
  free(opaque_pointer(p + 8));
  free(tally_malloc(TALLY_TAG_ROOT, 300));
  dprintf(1, "finished\n");
  return 0;
}
