/* A block that nobody tagged. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = malloc(1024);
  EXPECT("tally: double free of %p (tag /, size class %zu)\n", p, class_of(1024));
  free(p);
  free(opaque_pointer(p));
  drive(TALLY_TAG_ROOT, 1024);
  finish(tag);
  return 0;
}
