/* Some bytes behind a large block that is made longer where it is. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 100000);
  EXPECT(
      "tally: overflow: %p was written to, 4 bytes past the end of block %p (tag /x, large block), "
      "as is seen at its realloc\n",
      p + 100003, p);
  memset((char*)opaque_pointer(p) + 100003, 'x', 50);
  p = realloc(p, 100100);
  free(p);
  finish(tag);
  return 0;
}
