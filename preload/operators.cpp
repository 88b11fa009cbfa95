// The replaceable operators new and delete. As in libstdc++ the array, nothrow and sized forms call
// the plain ones by their public names, so that a program which replaces only those gets all of
// them. The plain ones use malloc and free by name for the same reason; in tally::tally, where
// malloc is libc's, they use Tally's heap.
#include <errno.h>
#include <stdlib.h>

#include <new>

#include "api/malloc_api.h"
#include "cxx_runtime.h"

#if TALLY_FIND_CXX_RUNTIME
#define TALLY_EXPORT __attribute__((visibility("default"), used))
// Programs without a C++ runtime load us too. Without one nothing throws, and nothing here is
// called.
asm(".weak __gxx_personality_v0\n.weak __cxa_begin_catch\n.weak __cxa_end_catch\n.weak "
    "_Unwind_Resume");
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" __attribute__((weak)) void* __cxa_begin_catch(void*) noexcept;
namespace {
bool can_catch() { return __cxa_begin_catch != nullptr; }
}  // namespace
#else
// Linked statically, a form that the program replaces must not clash with ours.
#define TALLY_EXPORT __attribute__((visibility("default"), used, weak))
namespace {
constexpr bool can_catch() { return true; }
}  // namespace
#endif

namespace {

using tally::core::api::aligned_alloc;
constexpr bool kMallocIsOurs = TALLY_OPERATORS_USE_MALLOC;

inline void* take(size_t n) {
  if constexpr (kMallocIsOurs) return ::malloc(n);
  return tally::core::allocate(n);
}
inline void* take(size_t n, std::align_val_t alignment) {
  size_t bytes = static_cast<size_t>(alignment);
  if constexpr (kMallocIsOurs) return ::aligned_alloc(bytes, n);
  return aligned_alloc(bytes, n);
}
inline void give(void* p) {
  if constexpr (kMallocIsOurs) {
    ::free(p);
  } else {
    tally::core::release_block(p);
  }
}

// The loop that the standard prescribes: the handler frees something, throws, or ends the program.
template <class... Alignment>
TALLY_NOINLINE void* new_slow(size_t n, Alignment... alignment) {
  for (;;) {
    std::new_handler handler = tally::core::current_new_handler();
    if (handler == nullptr) tally::core::throw_bad_alloc();
    handler();
    if (void* p = take(n, alignment...)) return p;
  }
}

template <class... Alignment>
inline void* new_or_null(size_t n, Alignment... alignment) {
  if (!can_catch()) return take(n, alignment...);
  try {
    return ::operator new(n, alignment...);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

TALLY_EXPORT void* operator new(size_t n) {
  void* p = take(n);
  return TALLY_LIKELY(p != nullptr) ? p : new_slow(n);
}
TALLY_EXPORT void* operator new(size_t n, std::align_val_t alignment) {
  void* p = take(n, alignment);
  return TALLY_LIKELY(p != nullptr) ? p : new_slow(n, alignment);
}
TALLY_EXPORT void* operator new[](size_t n) { return ::operator new(n); }
TALLY_EXPORT void* operator new[](size_t n, std::align_val_t a) { return ::operator new(n, a); }
TALLY_EXPORT void* operator new(size_t n, const std::nothrow_t&) noexcept { return new_or_null(n); }
TALLY_EXPORT void* operator new[](size_t n, const std::nothrow_t&) noexcept {
  if (!can_catch()) return take(n);
  try {
    return ::operator new[](n);
  } catch (...) {
    return nullptr;
  }
}
TALLY_EXPORT void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_or_null(n, a);
}
TALLY_EXPORT void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  if (!can_catch()) return take(n, a);
  try {
    return ::operator new[](n, a);
  } catch (...) {
    return nullptr;
  }
}

TALLY_EXPORT void operator delete(void* p) noexcept { give(p); }
TALLY_EXPORT void operator delete[](void* p) noexcept { ::operator delete(p); }
TALLY_EXPORT void operator delete(void* p, const std::nothrow_t&) noexcept { ::operator delete(p); }
TALLY_EXPORT void operator delete[](void* p, const std::nothrow_t&) noexcept {
  ::operator delete[](p);
}
TALLY_EXPORT void operator delete(void* p, size_t) noexcept { ::operator delete(p); }
TALLY_EXPORT void operator delete[](void* p, size_t) noexcept { ::operator delete[](p); }
TALLY_EXPORT void operator delete(void* p, std::align_val_t) noexcept { give(p); }
TALLY_EXPORT void operator delete[](void* p, std::align_val_t a) noexcept {
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete(void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete[](void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  ::operator delete[](p, a);
}
TALLY_EXPORT void operator delete(void* p, size_t, std::align_val_t a) noexcept {
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete[](void* p, size_t, std::align_val_t a) noexcept {
  ::operator delete[](p, a);
}
