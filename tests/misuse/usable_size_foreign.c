/* malloc_usable_size of a static variable. */
#include "misuse.h"

static char here[64] __attribute__((aligned(16)));

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: usable size of %p, which is not a block of Tally's\n", (void*)here);
  CHECK(malloc_usable_size(opaque_pointer(here)) == 0);
  finish(tag);
  return 0;
}
