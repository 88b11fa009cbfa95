// A program that replaces only the array forms and one that replaces only the aligned forms are one
// program here: what it did not replace must forward to what it did.
#include <cstdlib>
#include <new>

#include "check.h"

namespace {
int news = 0, deletes = 0, aligned_news = 0, aligned_deletes = 0;
}

void* operator new[](size_t size) {
  news++;
  return std::malloc(size);
}
void operator delete[](void* p) noexcept {
  deletes++;
  std::free(p);
}
void* operator new(size_t size, std::align_val_t alignment) {
  aligned_news++;
  return std::aligned_alloc(static_cast<size_t>(alignment), size);
}
void operator delete(void* p, std::align_val_t) noexcept {
  aligned_deletes++;
  std::free(p);
}

int main() {
  CHECK_LIVE();
  const size_t n = opaque(192);
  const std::align_val_t wide{64};
  ::operator delete[](::operator new[](n), n);
  ::operator delete[](::operator new[](n, std::nothrow), std::nothrow);
  CHECK_OP(news, ==, 2);
  CHECK_OP(deletes, ==, 2);
  ::operator delete(::operator new(n), n);
  CHECK_OP(news, ==, 2);
  CHECK_OP(deletes, ==, 2);

  ::operator delete(::operator new(n, wide), n, wide);
  ::operator delete(::operator new(n, wide, std::nothrow), wide, std::nothrow);
  ::operator delete[](::operator new[](n, wide), n, wide);
  ::operator delete[](::operator new[](n, wide, std::nothrow), wide, std::nothrow);
  CHECK_OP(aligned_news, ==, 4);
  CHECK_OP(aligned_deletes, ==, 4);
  CHECK_OP(news, ==, 2);
  CHECK_OP(deletes, ==, 2);
  return 0;
}
