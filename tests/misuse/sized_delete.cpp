// A sized delete as of fewer bytes than were asked for.
#include <cstdlib>
#include <new>

#include "misuse.h"

int main() {
  const tally_tag tag = misuse_tag();
  void* p = ::operator new(40);
  // A hardened block has the bytes that were asked for, another all of its class.
  const int has = getenv("TEST_HARDENED") != nullptr ? 40 : 48;
  EXPECT("tally: sized delete of %p as 1 byte, and it has %d (tag /, size class 48)\n", p, has);
  ::operator delete(opaque_pointer(p), 1);
  finish(tag);
}
