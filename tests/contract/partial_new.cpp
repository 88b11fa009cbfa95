// A program that replaces only operator new(size_t) and operator delete(void*), as programs with a
// pool of their own do. The other forms are then bound to reach its two, as the standard library's
// do; else a pool's block is handed to the wrong free. Blocks carry a header that only this
// program's delete understands.
#include <cstdlib>
#include <new>

#include "check.h"

namespace {

constexpr size_t kMagic = 0x7a11;
struct alignas(16) Header {
  size_t magic;
};
int news = 0, deletes = 0;
bool fail = false;

}  // namespace

void* operator new(size_t size) {
  news++;
  if (fail) throw std::bad_alloc();
  auto* header = static_cast<Header*>(std::malloc(sizeof(Header) + size));
  if (header == nullptr) throw std::bad_alloc();
  header->magic = kMagic;
  return header + 1;
}

void operator delete(void* p) noexcept {
  deletes++;
  if (p == nullptr) return;
  Header* header = static_cast<Header*>(p) - 1;
  CHECK(header->magic == kMagic);
  header->magic = 0;
  std::free(header);
}

namespace {

// One block by this form of new, back by that form of delete; each must have come here exactly
// once.
template <class New, class Delete>
void pair(New make, Delete unmake) {
  news = deletes = 0;
  void* p = make();
  CHECK(p != nullptr);
  CHECK_OP(news, ==, 1);
  CHECK((static_cast<Header*>(p) - 1)->magic == kMagic);
  CHECK(tally_tag_of(static_cast<Header*>(p) - 1) != TALLY_TAG_NONE);
  unmake(p);
  CHECK_OP(deletes, ==, 1);
}

}  // namespace

int main() {
  CHECK_LIVE();
  const size_t n = opaque(100);
  const auto plain = [=] { return ::operator new(n); };
  const auto array = [=] { return ::operator new[](n); };
  const auto quiet = [=] { return ::operator new(n, std::nothrow); };
  const auto quiet_array = [=] { return ::operator new[](n, std::nothrow); };
  pair(plain, [](void* p) { ::operator delete(p); });
  pair(plain, [=](void* p) { ::operator delete(p, n); });
  pair(plain, [](void* p) { ::operator delete(p, std::nothrow); });
  pair(array, [](void* p) { ::operator delete[](p); });
  pair(array, [=](void* p) { ::operator delete[](p, n); });
  pair(array, [](void* p) { ::operator delete[](p, std::nothrow); });
  pair(quiet, [=](void* p) { ::operator delete(p, n); });
  pair(quiet_array, [=](void* p) { ::operator delete[](p, n); });
  pair([] { return new int; }, [](void* p) { delete static_cast<int*>(p); });
  pair([] { return new int[10]; }, [](void* p) { delete[] static_cast<int*>(p); });

  // The nothrow forms turn what the program's own new throws into NULL.
  fail = true;
  CHECK(::operator new(n, std::nothrow) == nullptr);
  CHECK(::operator new[](n, std::nothrow) == nullptr);
  fail = false;

  // The aligned forms are a family of their own and stay the library's.
  news = deletes = 0;
  void* wide = ::operator new (n, std::align_val_t{128});
  CHECK(tally_tag_of(wide) != TALLY_TAG_NONE);
  ::operator delete (wide, n, std::align_val_t{128});
  CHECK_OP(news, ==, 0);
  CHECK_OP(deletes, ==, 0);
  return 0;
}
