/* A block freed again after another one, by a program that allocates no more. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 20 };
  void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 64);
  EXPECT_AT_END("tally: double free of %p (tag /x, size class %zu)", blocks[0], class_of(64));
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  free(opaque_pointer(blocks[0]));
  dprintf(1, "finished\n");
  return 0;
}
