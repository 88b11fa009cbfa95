// A sized delete as of fewer bytes than were asked for.
#include <new>

#include "misuse.h"

int main() {
  const tally_tag tag = misuse_tag();
  void* p = ::operator new(40);
  EXPECT("tally: sized delete of %p as 1 byte, and it has 40 (tag /, size class 48)\n", p);
  ::operator delete(opaque_pointer(p), 1);
  finish(tag);
}
