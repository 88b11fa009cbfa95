/* A large block freed twice; seen at once, unless its pages already serve another. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = tally_malloc(tag, 3000000);
  EXPECT("tally: double free of %p (tag /x, large block)\n", p);
  free(p);
  free(opaque_pointer(p));
  finish(tag);
  return 0;
}
