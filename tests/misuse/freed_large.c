/* No message: of large blocks the first that is freed, and each that is twice as large as those
 * before, is ended by a fault if it is used still; and is known as freed. (Hardened, each is.) */
#include "misuse.h"

static void use_freed(tally_tag tag, size_t size) {
  char* p = tally_malloc(tag, size);
  memset(p, 1, size);
  CHECK(ends_by(p) == 0);
  free(p);
  CHECK(ends_by(opaque_pointer(p)) == SIGSEGV);
  CHECK(ends_by((char*)opaque_pointer(p) + size - 1) == SIGSEGV);
}

int main(void) {
  tally_tag tag = misuse_tag();
  use_freed(tag, 200000);
  use_freed(tag, 600000);
  use_freed(tag, 3000000);
  /* What was closed serves again. */
  for (int round = 0; round < 3; round++) {
    for (size_t size = 100000; size < 8000000; size += size / 2) {
      char* p = tally_malloc(tag, size);
      memset(p, round, size);
      free(p);
    }
    tally_trim();
  }
  finish(tag);
  return 0;
}
