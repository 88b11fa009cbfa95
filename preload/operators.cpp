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
#include "api_anchor.h"
#include "cxx_runtime.h"
#include "heap/callers.h"

#if TALLY_FIND_CXX_RUNTIME
#define TALLY_EXPORT __attribute__((visibility("default"), used))
// Programs without a C++ runtime load us too. Without one nothing throws, and nothing here is
// called.
asm(".weak __gxx_personality_v0\n.weak __cxa_begin_catch\n.weak __cxa_end_catch\n.weak "
    "_Unwind_Resume\n.weak _ZSt9terminatev");
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

// In a namespace of ours, so that whoever sees these on a stack knows whose they are.
namespace tally::core {
namespace {

constexpr bool kMallocIsOurs = TALLY_OPERATORS_USE_MALLOC;

inline void* take_for(const void* caller, size_t n) { return allocate_for(caller, n); }
inline void* take_for(const void* caller, size_t n, std::align_val_t alignment) {
  return api::aligned_alloc(static_cast<size_t>(alignment), n, caller);
}
inline void* take(size_t n) {
  if constexpr (kMallocIsOurs) return ::malloc(n);
  return allocate(n);
}
inline void* take(size_t n, std::align_val_t alignment) {
  if constexpr (kMallocIsOurs) return ::aligned_alloc(static_cast<size_t>(alignment), n);
  return take_for(__builtin_return_address(0), n, alignment);
}
inline void give(void* p) {
  if constexpr (kMallocIsOurs) {
    ::free(p);
  } else {
    release_block(p);
  }
}

// Whether malloc asked for the caller, who is then put in the place of a forwarder.
bool is_asked(const void** caller) {
  if (!was_asked()) return false;
  if (is_forwarder(*caller)) *caller = forwarded_caller();
  return true;
}

// The loop that the standard prescribes: the handler frees something, throws, or ends the program.
// Without a caller malloc serves who calls it.
template <class... Alignment>
TALLY_NOINLINE void* new_after_handlers(const void* caller, size_t n, Alignment... alignment) {
  for (;;) {
    std::new_handler handler = current_new_handler();
    if (handler == nullptr) throw_bad_alloc();
    handler();
    void* p = caller == nullptr ? take(n, alignment...) : take_for(caller, n, alignment...);
    if (p != nullptr) return p;
  }
}

// take returned nullptr: there is no memory, or it asked. In tail position, as allocate_slow.
template <class... Alignment>
TALLY_NOINLINE void* new_slow(size_t n, Alignment... alignment) {
  const void* caller = __builtin_return_address(0);
  if (!is_asked(&caller)) return new_after_handlers(nullptr, n, alignment...);
  void* p = take_for(caller, n, alignment...);
  return TALLY_LIKELY(p != nullptr) ? p : new_after_handlers(caller, n, alignment...);
}

// The nothrow forms, for their caller.
template <bool kArray, class... Alignment>
[[gnu::always_inline]] inline void* new_or_null(const void* caller, size_t n,
                                                Alignment... alignment) {
  if (!can_catch()) {
    void* p = take(n, alignment...);
    return p == nullptr && is_asked(&caller) ? take_for(caller, n, alignment...) : p;
  }
  note_forwarded(caller);
  try {
    return kArray ? ::operator new[](n, alignment...) : ::operator new(n, alignment...);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace
}  // namespace tally::core

// Where these are, whoever else defines them.
extern "C" {
#define TALLY_OWN(name, symbol)                                         \
  asm(".globl " #name "\n.hidden " #name "\n.set " #name ", " #symbol); \
  __attribute__((visibility("hidden"))) extern const char name[]
TALLY_OWN(tally_own_new, _Znwm);
TALLY_OWN(tally_own_new_array, _Znam);
TALLY_OWN(tally_own_new_aligned, _ZnwmSt11align_val_t);
}

namespace tally::core {
namespace {

// Who has an operator new of his own may ask it for more than he deletes.
[[maybe_unused]] bool is_new_ours() {  // where sizes are checked
  using New = void* (*)(size_t);
  using AlignedNew = void* (*)(size_t, std::align_val_t);
  auto is_at = [](auto* function, const char* own) {
    asm("" : "+r"(own));  // compilers know that two names are two functions
    return reinterpret_cast<const char*>(function) == own;
  };
  return is_at(static_cast<New>(::operator new), tally_own_new) &&
         is_at(static_cast<New>(::operator new[]), tally_own_new_array) &&
         is_at(static_cast<AlignedNew>(::operator new), tally_own_new_aligned);
}

inline void check(const void* p, size_t n, std::align_val_t alignment = std::align_val_t{1}) {
  if constexpr (kChecksSizes) check_sized(p, n, static_cast<size_t>(alignment), is_new_ours());
}
inline void check(const void* p, std::align_val_t alignment) {
  if constexpr (kChecksSizes) check_sized(p, 0, static_cast<size_t>(alignment), false);
}

}  // namespace
}  // namespace tally::core

using tally::core::check, tally::core::give, tally::core::new_or_null, tally::core::new_slow,
    tally::core::take;

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
TALLY_EXPORT void operator delete(void* p, size_t n) noexcept {
  check(p, n);
  ::operator delete(p);
}
TALLY_EXPORT void operator delete[](void* p, size_t n) noexcept {
  check(p, n);
  ::operator delete[](p);
}
TALLY_EXPORT void operator delete(void* p, std::align_val_t a) noexcept {
  check(p, a);
  give(p);
}
TALLY_EXPORT void operator delete[](void* p, std::align_val_t a) noexcept {
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete(void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete[](void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
  ::operator delete[](p, a);
}
TALLY_EXPORT void operator delete(void* p, size_t n, std::align_val_t a) noexcept {
  check(p, n, a);
  ::operator delete(p, a);
}
TALLY_EXPORT void operator delete[](void* p, size_t n, std::align_val_t a) noexcept {
  check(p, n, a);
  ::operator delete[](p, a);
}
