/* No message: who reads a block that is free finds zeros, beyond the word that links it. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  for (size_t size = 16; size <= 8000; size += size / 3) {
    char* p = tally_malloc(tag, size);
    memset(p, 'A', size);
    free(p);
    p = opaque_pointer(p);
    for (size_t i = 8; i < size; i++) {
      if (i < class_of(size) - 8) CHECK(p[i] == 0);
    }
  }
  finish(tag);
  return 0;
}
