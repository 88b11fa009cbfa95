// A delete that claims more alignment than there is; and before it all that are right.
#include <initializer_list>
#include <new>

#include "misuse.h"

int main() {
  const tally_tag tag = misuse_tag();
  for (size_t alignment = 1; alignment <= 8192; alignment *= 2) {
    for (size_t n : {size_t{1}, size_t{24}, alignment, alignment * 3, size_t{100000}}) {
      const auto a = static_cast<std::align_val_t>(alignment);
      ::operator delete(::operator new(n, a), n, a);
      ::operator delete[](::operator new[](n, a), a);
      ::operator delete(::operator new(n), n);
      ::operator delete[](::operator new[](n), n);
    }
  }
  char* p = static_cast<char*>(::operator new(40));
  while ((reinterpret_cast<uintptr_t>(p) & 63) == 0) p = static_cast<char*>(::operator new(40));
  EXPECT("tally: aligned delete of %p, which is not aligned to 64 (tag /, size class 48)\n", p);
  ::operator delete (opaque_pointer(p), std::align_val_t{64});
  finish(tag);
}
