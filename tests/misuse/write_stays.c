/* A write to where a block that was freed among the last of its slab has its link. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 512 };
  char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 2400);
  for (int at = 1; at < 8; at++) {
    char* p = blocks[kBlocks - at];
    EXPECT(
        "tally: use after free: %p was written to, 0 bytes into block %p (tag /x, size class "
        "%zu), as is seen when that is used again\n",
        p, p, class_of(2400));
    /* After that, where the program goes on: the list ends there. */
    EXPECT(
        "tally: free list damaged at %p: a block was freed twice, or a free one was written to "
        "(tag /x, size class %zu)\n",
        p, class_of(2400));
  }
  for (int i = 0; i < kBlocks; i++) tally_free(blocks[i]);
  for (int at = 1; at < 8; at++) memset(opaque_pointer(blocks[kBlocks - at]), 0x5a, 8);
  drive(tag, 2400);
  finish(tag);
  return 0;
}
