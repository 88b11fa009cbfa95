/* A write to where a block that is free has its link: one that leads to memory of the program's. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 200 }; /* half of which stay, and keep the slab in use */
  char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 200);
  static char target[256] __attribute__((aligned(16)));
  char* p = blocks[kBlocks / 2];
  EXPECT(
      "tally: use after free: %p was written to, 0 bytes into block %p (tag /x, size class "
      "%zu), as is seen when that is used again\n",
      p, p, class_of(200));
  for (int i = 0; i < kBlocks; i += 2) free(blocks[i]);
  *(void**)opaque_pointer(p) = target;
  drive(tag, 200);
  CHECK(target[0] == 0 && target[200] == 0);
  finish(tag);
  return 0;
}
