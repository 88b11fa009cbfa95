/* An address that no x86-64 program can have. misuse_test.py lets a SIGSEGV pass here too. */
#include "misuse.h"

int main(void) {
  tally_tag tag = misuse_tag();
  EXPECT("tally: free of 0x4141414141414140, which is not a block of Tally's\n");
  free(opaque_pointer((void*)0x4141414141414140));
  finish(tag);
  return 0;
}
