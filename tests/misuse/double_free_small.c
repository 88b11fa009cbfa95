/* A small block freed twice in a row. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = tally_malloc(tag, 64);
  EXPECT("tally: double free of %p (tag /x, size class %zu)\n", p, class_of(64));
  free(p);
  free(opaque_pointer(p));
  drive(tag, 64);
  finish(tag);
  return 0;
}
