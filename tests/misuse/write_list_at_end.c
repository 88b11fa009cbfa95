/* A write to where a block that is free has its link. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  char* q = tally_malloc(tag, 64);
  if (tally_is_hardened()) {
    EXPECT_AT_END(
        "tally: use after free: %p was written to, 0 bytes into block %p (tag /x, size class %zu)",
        p, p, class_of(64));
  } else {
    EXPECT_AT_END(
        "tally: free list damaged at %p: a block was freed twice, or a free one was written to "
        "(tag /x, size class %zu)",
        p, class_of(64));
  }
  free(p);
  free(q);
  memset(opaque_pointer(p), 'A', 64);
  dprintf(1, "finished\n");
  return 0;
}
