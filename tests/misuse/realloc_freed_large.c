/* realloc of a large block that was freed. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  char* p = tally_malloc(tag, 3000000);
  EXPECT("tally: realloc of %p, which was freed (tag /x, large block)\n", p);
  EXPECT("tally: double free of %p (tag /x, large block)\n", p);
  free(p);
  void* q = realloc(opaque_pointer(p), 10000000);
  CHECK(q == NULL);
  finish(tag);
  return 0;
}
