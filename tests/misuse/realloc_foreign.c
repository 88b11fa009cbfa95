/* realloc of a static variable. */
#include "misuse.h"

static char here[64] __attribute__((aligned(16)));

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: realloc of %p, which is not a block of Tally's\n", (void*)here);
  void* p = realloc(opaque_pointer(here), 100);
  CHECK(p != here);
  finish(tag);
  return 0;
}
