/* A local variable. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char local[64];
  EXPECT("tally: free of %p, which is not a block of Tally's\n", (void*)local);
  free(opaque_pointer(local));
  finish(tag);
  return 0;
}
