/* Freed again when all the memory around it has long been given back. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 20000 };
  static void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 900);
  void* p = blocks[kBlocks / 2];
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(900));
  EXPECT("tally: free of %p, which is not a block of Tally's\n", p);
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  tally_trim();
  free(opaque_pointer(p));
  drive(tag, 900);
  finish(tag);
  return 0;
}
