/* A static variable's second byte. */
#include "misuse.h"

static char here[64] __attribute__((aligned(16)));

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: free of %p, which is not a block of Tally's\n", (void*)(here + 1));
  free(opaque_pointer(here + 1));
  finish(tag);
  return 0;
}
