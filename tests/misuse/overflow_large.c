/* A zero behind what was asked for of a large block, in its last page. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 100000);
  EXPECT(
      "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, large block), "
      "as is seen at its free\n",
      p + 100000, p);
  ((char*)opaque_pointer(p))[100000] = 0;
  free(p);
  finish(tag);
  return 0;
}
