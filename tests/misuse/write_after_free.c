/* A write into the middle of a block that is free. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 200 }; /* half of which stay, and keep the slab in use */
  char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 200);
  char* p = blocks[kBlocks / 2];
  EXPECT(
      "tally: use after free: %p was written to, 100 bytes into block %p (tag /x, size class "
      "%zu), as is seen when that is used again\n",
      p + 100, p, class_of(200));
  for (int i = 0; i < kBlocks; i += 2) free(blocks[i]);
  ((char*)opaque_pointer(p))[100] = 1;
  drive(tag, 200);
  finish(tag);
  return 0;
}
