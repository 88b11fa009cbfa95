// A sized delete as of more bytes than a large block has.
#include <new>

#include "misuse.h"

int main() {
  const tally_tag tag = misuse_tag();
  void* p = ::operator new(300000);
  EXPECT("tally: sized delete of %p as 400000 bytes, and it has 303104 (tag /, large block)\n", p);
  ::operator delete(opaque_pointer(p), 400000);
  finish(tag);
}
