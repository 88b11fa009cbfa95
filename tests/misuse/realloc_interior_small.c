/* realloc of a pointer into a small block. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  EXPECT("tally: realloc of %p, inside a block that starts at %p (tag /x, size class %zu)\n",
         p + 16, p, class_of(64));
  void* q = realloc(opaque_pointer(p + 16), 1000);
  CHECK(q == NULL);
  finish(tag);
  return 0;
}
