/* malloc_usable_size of a pointer into a small block. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  EXPECT("tally: usable size of %p, inside a block that starts at %p (tag /x, size class %zu)\n",
         p + 16, p, class_of(64));
  malloc_usable_size(opaque_pointer(p + 16));
  finish(tag);
  return 0;
}
