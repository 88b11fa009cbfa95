// A program with a malloc of its own, which comes before a preloaded one. Operator new must then
// use that one too, for the program may free what it got by new with its own free. So must those
// of the family that the program lacks and that are made of others.
#include <sys/mman.h>

#include <new>
#include <string>

#include "check.h"

namespace {
size_t used;
alignas(64) char memory[64 << 20];
int mallocs, frees;

bool is_ours(void* p) { return p >= memory && p < memory + sizeof memory; }
}  // namespace

extern "C" {

__attribute__((weak)) void* reallocf(void* p, size_t n);

void* malloc(size_t n) {
  mallocs++;
  n = (n + 15) & ~size_t{15};
  if (n > sizeof memory - used - 16) {
    errno = ENOMEM;
    return nullptr;
  }
  char* p = memory + used + 16;
  *reinterpret_cast<size_t*>(p - 16) = n;
  used += n + 16;
  return p;
}

void free(void* p) {
  if (p == nullptr) return;
  frees++;
  CHECK(is_ours(p));
}

void* calloc(size_t count, size_t size) { return malloc(count * size); }

void* realloc(void* p, size_t n) {
  void* q = malloc(n);
  if (p != nullptr && q != nullptr) {
    const size_t old = *reinterpret_cast<size_t*>(static_cast<char*>(p) - 16);
    memcpy(q, p, old < n ? old : n);
  }
  return q;
}

void* aligned_alloc(size_t alignment, size_t n) {
  const size_t here = reinterpret_cast<size_t>(memory + used + 16);
  used += (alignment - here % alignment) % alignment;
  return malloc(n);
}
void* memalign(size_t alignment, size_t n) { return aligned_alloc(alignment, n); }
int posix_memalign(void** p, size_t alignment, size_t n) {
  *p = aligned_alloc(alignment, n);
  return *p == nullptr ? ENOMEM : 0;
}
}

int main() {
  CHECK(tally_version != nullptr);
  const int before = mallocs;
  void* from_new = ::operator new(opaque(100));
  void* from_array = ::operator new[](opaque(100), std::nothrow);
  CHECK_OP(mallocs, ==, before + 2);
  free(from_new);
  free(from_array);
  void* from_malloc = malloc(opaque(100));
  ::operator delete(from_malloc);
  void* wide = ::operator new (opaque(256), std::align_val_t{128});
  CHECK(is_ours(wide));
  ::operator delete (wide, std::align_val_t{128});
  std::string text(1000, 'x');
  CHECK(is_ours(text.data()));
  void* array = reallocarray(nullptr, opaque(10), 10);
  CHECK(is_ours(array));
  CHECK(reallocarray(array, opaque(SIZE_MAX), 2) == nullptr && errno == ENOMEM);
  array = reallocarray(array, opaque(20), 10);
  CHECK(is_ours(array));
  const int before_reallocf = frees;
  CHECK(reallocf(array, opaque(sizeof memory)) == nullptr);
  CHECK_OP(frees, ==, before_reallocf + 1);
  void* page = valloc(opaque(10));
  CHECK(is_ours(page));
  test_cfree(page);
  page = pvalloc(opaque(10));
  CHECK(is_ours(page) && is_ours(reallocf(page, 20)));
  test_free_sized(malloc(opaque(10)), 10);
  test_free_aligned_sized(page, 4096, 4096);
  CHECK_OP(frees, ==, before_reallocf + 4);
  // Tally's own interface goes on beside it.
  void* p = tally_malloc(TALLY_TAG_ROOT, 100);
  CHECK(p != nullptr && tally_tag_of(p) == TALLY_TAG_ROOT);
  tally_free(p);
  return 0;
}
