/* Zeros past the end of a block, over the link of the one behind it, which is free. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  const size_t size = class_of(64);
  char* p = tally_malloc(tag, 64);
  if (tally_is_hardened()) {
    EXPECT_AT_END(
        "tally: use after free: %p was written to, 0 bytes into block %p (tag /x, size class %zu)",
        p + size, p + size, size);
  } else {
    EXPECT_AT_END(
        "tally: free list damaged at %p: a block was freed twice, or a free one was written to "
        "(tag /x, size class %zu)",
        p + size, size);
  }
  memset(opaque_pointer(p), 0, size + 8);
  dprintf(1, "finished\n");
  return 0;
}
