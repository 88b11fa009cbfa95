/* Writes far into long blocks that are free: some of them are seen, and all with TALLY_CHECK=1. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 128, kSize = 2000, kAt = 1500 }; /* half of which stay */
  char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, kSize);
  for (int i = 0; i < kBlocks; i += 2) {
    EXPECT(
        "tally: use after free: %p was written to, %d bytes into block %p (tag /x, size class "
        "%zu), as is seen when that is used again\n",
        blocks[i] + kAt, kAt, blocks[i], class_of(kSize));
    free(blocks[i]);
  }
  for (int i = 0; i < kBlocks; i += 2) ((char*)opaque_pointer(blocks[i]))[kAt] = 1;
  drive(tag, kSize);
  finish(tag);
  return 0;
}
