/* A write into a block that was freed, and is not used again. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  EXPECT_AT_END(
      "tally: use after free: %p was written to, 12 bytes into block %p (tag /x, size class %zu)",
      p + 12, p, class_of(64));
  free(p);
  ((char*)opaque_pointer(p))[12] = 'x';
  dprintf(1, "finished\n");
  return 0;
}
