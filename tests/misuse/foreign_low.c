/* A small number taken for a pointer. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: free of 0x10, which is not a block of Tally's\n");
  free(opaque_pointer((void*)0x10));
  finish(tag);
  return 0;
}
