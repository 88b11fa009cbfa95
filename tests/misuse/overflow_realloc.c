/* A byte behind a block that is made longer where it is. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 50);
  EXPECT(
      "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, size class "
      "%zu), as is seen at its realloc\n",
      p + 50, p, class_of(50));
  ((char*)opaque_pointer(p))[50] = 'x';
  p = realloc(p, 52);
  free(p);
  finish(tag);
  return 0;
}
