/* A pointer into a large block, before which the program's own data looks like the head of a block
 * of the C library's. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 4 << 20);
  const size_t head[2] = {0, 0x1002};
  memcpy(p + 0x1000, head, sizeof head);
  EXPECT("tally: free of %p, inside a block that starts at %p (tag /x, large block)\n",
         (void*)(p + 0x1010), (void*)p);
  free(opaque_pointer(p + 0x1010));
  memset(p, 1, 4 << 20);
  free(p);
  finish(tag);
  return 0;
}
