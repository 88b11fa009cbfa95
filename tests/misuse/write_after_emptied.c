/* A write into a block of a slab that is empty by then and linked anew. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = freed_of_emptied(tag, 200);
  EXPECT(
      "tally: use after free: %p was written to, 100 bytes into block %p (tag /x, size class "
      "%zu), as is seen when that is used again\n",
      p + 100, p, class_of(200));
  ((char*)opaque_pointer(p))[100] = 1;
  drive(tag, 200);
  finish(tag);
  return 0;
}
