/* The last byte of the last page of a block that has a mapping of its own, by an index too far. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  const size_t n = 5000001;
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t last = (n / page + 1) * page - 1;
  char* p = tally_aligned_alloc(tag, 256, n);
  EXPECT(
      "tally: overflow: %p was written to, %zu bytes past the end of block %p (tag /x, large "
      "block), as is seen at its free\n",
      p + last, last - n + 1, p);
  ((char*)opaque_pointer(p))[last] = 'x';
  free(p);
  finish(tag);
  return 0;
}
