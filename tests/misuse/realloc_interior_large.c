/* realloc of a pointer into a large block. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 3000000);
  EXPECT("tally: realloc of %p, inside a block that starts at %p (tag /x, large block)\n", p + 16,
         p);
  void* q = realloc(opaque_pointer(p + 16), 10000000);
  CHECK(q == NULL);
  finish(tag);
  return 0;
}
