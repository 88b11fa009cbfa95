/* A block of many chunks freed twice. It may be unknown by then, but must not be taken for somebody
 * else's. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = tally_malloc(tag, 100000000);
  EXPECT("tally: double free of %p (tag /x, large block)\n", p);
  EXPECT("tally: free of %p, which is not a block of Tally's\n", p);
  free(p);
  free(opaque_pointer(p));
  finish(tag);
  return 0;
}
