/* A block that nobody tagged. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = malloc(1024);
  EXPECT("tally: double free of %p (tag /, size class 1024)\n", p);
  free(p);
  free(opaque_pointer(p));
  drive(TALLY_TAG_ROOT, 1024);
  finish(tag);
  return 0;
}
