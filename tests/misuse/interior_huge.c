/* A pointer into a block of many chunks, far from its start. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 100000000);
  char* inside = p + 50000016;
  EXPECT("tally: free of %p, inside a block that starts at %p (tag /x, large block)\n", inside, p);
  free(opaque_pointer(inside));
  finish(tag);
  return 0;
}
