// A sized delete as of more bytes than a large block has.
#include <new>

#include "misuse.h"

int main() {
  const tally_tag tag = misuse_tag();
  void* p = ::operator new(300000);
  EXPECT("tally: sized delete of %p as 400000 bytes, and it has %zu (tag /, large block)\n", p,
         tally_usable_size(p));
  ::operator delete(opaque_pointer(p), 400000);
  finish(tag);
}
