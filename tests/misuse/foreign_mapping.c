/* Memory that the program mapped itself. */
#include <sys/mman.h>

#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  void* p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  EXPECT("tally: free of %p, which is not a block of Tally's\n", p);
  free(opaque_pointer(p));
  finish(tag);
  return 0;
}
