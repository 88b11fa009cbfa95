/* A write through the end of a block, found by the free of the block behind it. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 100 };
  char* blocks[kBlocks];
  const size_t size = class_of(64);
  char *left = NULL, *right = NULL;
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 64);
  for (int i = 0; i < kBlocks; i++) {
    for (int j = 0; j < kBlocks; j++) {
      if (blocks[j] != blocks[i] + size) continue;
      left = blocks[i];
      right = blocks[j];
    }
  }
  CHECK(right != NULL);
  EXPECT(
      "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, size class "
      "%zu), as is seen at its neighbour's free\n",
      left + size - 8, left, size);
  char* end = opaque_pointer(right);
  for (int i = 1; i <= 16; i++) end[-i] = 0;
  free(right);
  finish(tag);
  return 0;
}
