/* A byte behind what was asked for, in the room that its size class would have had. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 50);
  EXPECT(
      "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, size class "
      "%zu), as is seen at its free\n",
      p + 50, p, class_of(50));
  ((char*)opaque_pointer(p))[50] = 0; /* as one byte too many of a string */
  free(p);
  finish(tag);
  return 0;
}
