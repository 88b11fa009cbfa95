/* A byte behind a large block that was made longer, then shorter, where it is. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 100000);
  CHECK(realloc(p, 120000) == p && realloc(p, 90000) == p);
  EXPECT(
      "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, large block), "
      "as is seen at its free\n",
      p + 90000, p);
  ((char*)opaque_pointer(p))[90000] = 'x';
  free(p);
  finish(tag);
  return 0;
}
