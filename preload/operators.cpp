// The replaceable operators new and delete. As in libstdc++ the array, nothrow and sized forms call
// the plain ones by their public names, so that a program which replaces only those gets all of
// them. The plain ones use malloc and free by name for the same reason; in tally::tally, where
// malloc is libc's, they use Tally's heap.
//
// By module (heap/callers.h) malloc would see a call of ours. So it returns nullptr to a forwarder,
// asking for the caller, and that is told on the way out that a failure takes anyway: the fast path
// is as it would be without. Where one operator calls another before that, it notes its caller.
#include <errno.h>
#include <stdlib.h>

#include <new>

#include "api/malloc_api.h"
#include "cxx_runtime.h"
#include "heap/callers.h"

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

constexpr bool kMallocIsOurs = TALLY_OPERATORS_USE_MALLOC;

inline void* take_for(const void* caller, size_t n) { return tally::core::allocate_for(caller, n); }
inline void* take_for(const void* caller, size_t n, std::align_val_t alignment) {
  return tally::core::api::aligned_alloc(static_cast<size_t>(alignment), n, caller);
}
inline void* take(size_t n) {
  if constexpr (kMallocIsOurs) return ::malloc(n);
  return tally::core::allocate(n);
}
inline void* take(size_t n, std::align_val_t alignment) {
  if constexpr (kMallocIsOurs) return ::aligned_alloc(static_cast<size_t>(alignment), n);
  return take_for(__builtin_return_address(0), n, alignment);
}
inline void give(void* p) {
  if constexpr (kMallocIsOurs) {
    ::free(p);
  } else {
    tally::core::release_block(p);
  }
}

// Whether malloc asked for the caller, who is then put in the place of a forwarder.
bool is_asked(const void** caller) {
  if (!tally::core::was_asked()) return false;
  if (tally::core::is_forwarder(*caller)) *caller = tally::core::forwarded_caller();
  return true;
}

// take returned nullptr: it asked, or there is no memory; then the loop that the standard
// prescribes: the handler frees something, throws, or ends the program. In tail position, as
// allocate_slow.
template <class... Alignment>
TALLY_NOINLINE void* new_slow(size_t n, Alignment... alignment) {
  const void* caller = __builtin_return_address(0);
  bool asked = is_asked(&caller);
  for (bool first = true;; first = false) {
    void* p = asked ? take_for(caller, n, alignment...) : first ? nullptr : take(n, alignment...);
    if (p != nullptr) return p;
    std::new_handler handler = tally::core::current_new_handler();
    if (handler == nullptr) tally::core::throw_bad_alloc();
    handler();
  }
}

// The nothrow forms, for their caller.
template <bool kArray, class... Alignment>
[[gnu::always_inline]] inline void* new_or_null(const void* caller, size_t n,
                                                Alignment... alignment) {
  if (!can_catch()) {
    void* p = take(n, alignment...);
    return p == nullptr && is_asked(&caller) ? take_for(caller, n, alignment...) : p;
  }
  tally::core::note_forwarded(caller);
  try {
    return kArray ? ::operator new[](n, alignment...) : ::operator new(n, alignment...);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

#define TALLY_NEW TALLY_EXPORT TALLY_FORWARDER
#define TALLY_CALLER __builtin_return_address(0)

TALLY_NEW void* operator new(size_t n) {
  void* p = take(n);
  return TALLY_LIKELY(p != nullptr) ? p : new_slow(n);
}
TALLY_NEW void* operator new(size_t n, std::align_val_t alignment) {
  void* p = take(n, alignment);
  return TALLY_LIKELY(p != nullptr) ? p : new_slow(n, alignment);
}
TALLY_NEW void* operator new[](size_t n) { return ::operator new(n); }
TALLY_NEW void* operator new[](size_t n, std::align_val_t a) { return ::operator new(n, a); }
TALLY_NEW void* operator new(size_t n, const std::nothrow_t&) noexcept {
  return new_or_null<false>(TALLY_CALLER, n);
}
TALLY_NEW void* operator new[](size_t n, const std::nothrow_t&) noexcept {
  return new_or_null<true>(TALLY_CALLER, n);
}
TALLY_NEW void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_or_null<false>(TALLY_CALLER, n, a);
}
TALLY_NEW void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_or_null<true>(TALLY_CALLER, n, a);
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
