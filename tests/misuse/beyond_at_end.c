/* A pointer to memory of a slab that no block was made of yet. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  char* q = p + 320 * class_of(64) / 64 * 64;
  EXPECT_AT_END("tally: free of %p, where no block is yet (tag /x, size class %zu)", q,
                class_of(64));
  free(opaque_pointer(q));
  dprintf(1, "finished\n");
  return 0;
}
