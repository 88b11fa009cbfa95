/* A pointer into a small block, aligned as a block would be. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  EXPECT("tally: free of %p, inside a block that starts at %p (tag /x, size class %zu)\n", p + 16,
         p, class_of(64));
  free(opaque_pointer(p + 16));
  drive(tag, 64);
  finish(tag);
  return 0;
}
