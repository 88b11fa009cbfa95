/* A byte before a block that has one before it. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 64);
  char* other = tally_malloc(tag, 64);
  if (other > p) p = other; /* it is not the first of its slab */
  EXPECT(
      "tally: underflow: %p was written to, 1 byte before block %p (tag /x, size class %zu), as "
      "is seen at its free\n",
      p - 1, p, class_of(64));
  ((char*)opaque_pointer(p))[-1] ^= 1;
  free(p);
  finish(tag);
  return 0;
}
