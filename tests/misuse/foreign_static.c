/* A static variable. */
#include "misuse.h"

static char here[64] __attribute__((aligned(16)));

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: free of %p, which is not a block of Tally's\n", (void*)here);
  free(opaque_pointer(here));
  finish(tag);
  return 0;
}
