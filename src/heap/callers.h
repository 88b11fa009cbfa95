// Tags that neither an argument nor a scope names: by the module that calls, or the thread's name
// (TALLY_TAG_BY).
//
// By thread, the tag of its name is the thread's outermost scope: malloc is as ever, and the name
// is looked at where a thread passes the slow path.
//
// By module, every thread's current heap is `by_caller`, whose lists stay empty, so that each
// malloc takes the slow path; there a cache leads from the return address to the heap. Its key is
// the page of code, which belongs to one module for as long as nothing is loaded in another's
// place. Before the dynamic linker maps a module it allocates its descriptor, by our malloc, and it
// does not map one where another still is: so when it allocates anything of that size all that is
// known of modules is forgotten. Whoever runs code of the new one has learnt of it after that.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/math.h"
#include "base/options.h"
#include "heap/heap.h"

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming)
extern const char __start_tally_forwarders[] __attribute__((weak, visibility("hidden")));
// NOLINTNEXTLINE(readability-identifier-naming)
extern const char __stop_tally_forwarders[] __attribute__((weak, visibility("hidden")));
}

namespace tally::core {

class RunningThread;

// What a thread knows of modules: all of it from after the load that `loads` counts.
struct Callers {
  struct Page {
    uintptr_t number;
    Heap* heap;
  };
  struct Known {
    const void* module;
    Heap* heap;
  };
  static constexpr size_t kEntries = 64;

  uint64_t loads;
  Page pages[kEntries];
  Known modules[kEntries];

  void clear();
  // The heap is to be another's.
  void forget(const Heap* heap);

  static constexpr uintptr_t page_of(const void* address) {
    return reinterpret_cast<uintptr_t>(address) >> 12;
  }
};

// Modules that were loaded, and perhaps more. It is never 0, as `loads` of `no_callers` is.
extern constinit std::atomic<uint64_t> module_loads;
extern constinit Callers no_callers;
// The current heap of threads where the caller decides.
extern constinit Heap by_caller;

inline bool is_by_module() { return options.tag_by == TagBy::kModule; }

// Functions of Tally's own that allocate on their callers' behalf lie in a section of this name;
// the linker knows its ends.
#define TALLY_FORWARDER __attribute__((section("tally_forwarders")))
inline bool is_forwarder(const void* caller) {
  return address(caller) - address(__start_tally_forwarders) <
         address(__stop_tally_forwarders) - address(__start_tally_forwarders);
}
// In no address of the program's.
inline constexpr uintptr_t kAsks = uintptr_t{1} << 63;
// By module. Tally called itself for somebody whom it knows better: it is to do so again for him.
inline bool must_ask(const void* caller) {
  if (TALLY_LIKELY(!is_forwarder(caller))) return false;
  tls.caller |= kAsks;
  return true;
}
// It did so; the question is taken back.
inline bool was_asked() {
  bool asked = (tls.caller & kAsks) != 0;
  tls.caller &= ~kAsks;
  return asked;
}
// Noted for a forwarder that this one calls.
inline void note_forwarded(const void* caller) { tls.caller = address(caller); }
inline const void* forwarded_caller() { return reinterpret_cast<const void*>(tls.caller); }

// As known_heap in a scope.
Heap* known_heap_in_scope(const Thread* thread, const void* caller);
// The heap to try where the current one is `by_caller`; with empty lists if it is not known.
inline Heap* known_heap(const Thread* thread, const void* caller) {
  if (TALLY_UNLIKELY(thread->depth != 0)) return known_heap_in_scope(thread, caller);
  const Callers* callers = thread->callers;
  uintptr_t number = Callers::page_of(caller);
  const Callers::Page& page = callers->pages[number % Callers::kEntries];
  bool is_known =
      page.number == number && callers->loads == module_loads.load(std::memory_order_relaxed);
  return TALLY_LIKELY(is_known) ? page.heap : &empty_heap;
}

// The heap that the thread's malloc is to try first.
inline Heap* heap_at_hand(const void* caller) {
  Heap* heap = tls.heap;
  return heap == &by_caller ? known_heap(tls.thread, caller) : heap;
}

// By module: before any other of these is called. And when all is loaded that the program is linked
// to: where malloc is not Tally's, the linker's allocations are not seen, and nothing is kept.
void start_by_module();
void check_by_module();
// Somebody allocates so much by malloc, by module: to be told before the heap is looked for.
void note_caller(const void* caller, size_t n);
// The heap for the caller; nullptr: no memory. No lock held.
Heap* find_callers_heap(const RunningThread& running, const void* caller);

// By thread: it was some time ago that the name was looked at, or the thread is new.
bool is_name_due(const Thread* thread);
// Looks at it. The heap for it if it is a new one, else nullptr. No lock held.
Heap* find_renamed_heap(const RunningThread& running);

}  // namespace tally::core
