/* A pointer into a large block. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 3000000);
  EXPECT("tally: free of %p, inside a block that starts at %p (tag /x, large block)\n", p + 4096,
         p);
  free(opaque_pointer(p + 4096));
  finish(tag);
  return 0;
}
