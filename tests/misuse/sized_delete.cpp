// A sized delete with a size that is not the one of new: more, less, and of a block of its own run.
#include <new>

#include "misuse.h"

int main(int argc, char** argv) {
  const tally_tag tag = misuse_tag();
  const char* how = argc > 1 ? argv[1] : "more";
  const bool is_more = *how == 'm';
  const size_t n = *how == 'a' ? 300000 : 40, said = is_more ? 72 : *how == 'a' ? 1000 : 1;
  void* p = ::operator new(n);
  if (n == 40) {
    EXPECT("tally: sized delete of %p as %zu byte%s, and it has 40 (tag /, size class 48)\n", p,
           said, said == 1 ? "" : "s");
  } else {
    EXPECT("tally: sized delete of %p as 1000 bytes, and it has 303104 (tag /, large block)\n", p);
  }
  ::operator delete(opaque_pointer(p), said);
  finish(tag);
}
