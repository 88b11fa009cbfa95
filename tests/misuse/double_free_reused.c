/* Freed again when its slab has become one of another size class. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  enum { kBlocks = 8000 };
  static void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = tally_malloc(tag, 300);
  /* Neither at the start of a slab, nor where a block of the other class starts. */
  const size_t other = class_of(100);
  char* p = NULL;
  size_t offset = 0;
  for (int i = kBlocks / 2; p == NULL; i++) {
    CHECK(i < kBlocks);
    offset = (uintptr_t)blocks[i] % (64 * 1024);
    if (offset > 20000 && offset < 40000 && offset % other != 0) p = blocks[i];
  }
  char* slot = p - offset;
  EXPECT("tally: free of %p, inside a block that starts at %p (tag /x, size class %zu)\n", p,
         slot + offset / other * other, other);
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  tally_trim();
  static char* others[kBlocks * 2];
  for (int i = 0; i < kBlocks * 2; i++) others[i] = tally_malloc(tag, 100);
  for (int i = 0; i < kBlocks * 2; i += 2) {
    if (others[i] >= slot && others[i] < slot + 64 * 1024) free(others[i]);
  }
  free(opaque_pointer(p));
  drive(tag, 100);
  finish(tag);
  return 0;
}
