/* No misuse: blocks of the C library's own malloc, as programs hold that got them before Tally came
 * or past it. They lie where brk put them, and go back to it without a word. */
#include "misuse.h"

void* __libc_malloc(size_t size);

int main(void) {
  tally_tag tag = misuse_tag();
  void* first = __libc_malloc(100);
  void* second = __libc_malloc(100);
  CHECK(first && second && first != second);
  CHECK(tally_tag_of(first) == TALLY_TAG_NONE);
  free(first);
  void* again = __libc_malloc(100);
  CHECK(again == first); /* so it was the C library that took it back */
  memset(second, 7, 100);
  char* moved = realloc(second, 5000);
  CHECK(moved != NULL && moved[0] == 7 && moved[99] == 7);
  free(moved);
  free(again);
  finish(tag);
  return 0;
}
