/* A block freed again when its heap has it in hand, to be allocated again. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 200 };
  static void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 1000);
  void* p = blocks[kBlocks / 2];
  EXPECT_AT_END("tally: double free of %p (tag /x, size class %zu)", p, class_of(1000));
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  /* Until the blocks that were freed with p are the ones to allocate from. */
  size_t distance = (size_t)-1;
  for (int i = 0; i < kBlocks && distance > 4096; i++) {
    char* q = tally_malloc(tag, 1000);
    distance = q > (char*)p ? (size_t)(q - (char*)p) : SIZE_MAX;
  }
  CHECK(distance != SIZE_MAX);
  free(opaque_pointer(p));
  dprintf(1, "finished\n");
  return 0;
}
