/* A medium block freed twice. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = tally_malloc(tag, 16384);
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(16384));
  free(p);
  free(opaque_pointer(p));
  drive(tag, 16384);
  finish(tag);
  return 0;
}
