#include "backend/backend.h"

#include <errno.h>
#include <string.h>

#include "base/config.h"
#include "base/math.h"
#include "os/lock.h"
#include "os/os.h"

namespace tally::core::backend {
namespace {

constinit Backend* const g_all[] = {&os, &libc, &jemalloc, &mimalloc};
constinit std::atomic<Backend*> g_selected{&os};
constinit std::atomic<uint64_t> g_surplus{0}, g_asked{0};
constinit thread_local bool t_inside = false;

class Inside {
 public:
  Inside() { t_inside = true; }
  ~Inside() {
    t_inside = false;
    errno = error_;
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  int error_ = errno;
};

bool is_aligned(const void* p, size_t alignment) { return (address(p) & (alignment - 1)) == 0; }

}  // namespace

Backend* find(const char* name) {
  for (Backend* backend : g_all) {
    if (strcmp(backend->name, name) == 0) return backend;
  }
  return nullptr;
}

void select(Backend* backend) { g_selected.store(backend, std::memory_order_release); }

Backend* selected() { return g_selected.load(std::memory_order_acquire); }
Backend* source() { return Lock::all_held_by_me() ? &os : selected(); }

void* take(Backend* from, size_t bytes, size_t alignment) {
  Inside inside;
  void* p = from->take(bytes, alignment);
  if (p == nullptr) return nullptr;
  if (!is_aligned(p, alignment)) {
    from->give(p, bytes);  // it breaks its word: as if it had none
    return nullptr;
  }
  // To drop what it may have used before costs less than to clear it, and what it never used stays
  // out of memory.
  if (!from->gives_zeroed && !purge(p, bytes)) memset(p, 0, bytes);
  from->taken.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}

bool give(Backend* from, void* p, size_t bytes) {
  if (!from->by_pages()) {
    if (Lock::all_held_by_me()) return false;
    // It would keep them, and nobody would count them.
    purge(p, bytes);
  }
  Inside inside;
  if (!from->give(p, bytes)) return false;
  from->taken.fetch_sub(bytes, std::memory_order_relaxed);
  return true;
}

void* resize(Backend* from, void* p, size_t bytes, size_t new_bytes, size_t alignment) {
  Inside inside;
  void* moved = from->resize(p, bytes, new_bytes, alignment);
  if (moved != nullptr) from->taken.fetch_add(new_bytes - bytes, std::memory_order_relaxed);
  return moved;
}

bool take_again(void* p, size_t bytes) {
  if (!core::os::map_at(p, bytes)) return false;
  os.taken.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool purge(void* p, size_t bytes) { return core::os::purge(p, bytes); }

void prefer_huge_pages(void* p, size_t bytes, bool yes) {
  core::os::prefer_huge_pages(p, bytes, yes);
}

bool is_inside() { return t_inside || Lock::is_in_step(); }

size_t held_bytes() {
  size_t bytes = 0;
  for (const Backend* backend : g_all) bytes += backend->taken.load(std::memory_order_relaxed);
  return bytes;
}

uint64_t surplus_bytes() { return g_surplus.load(std::memory_order_relaxed); }

void ask_surplus(bool now) {
  constexpr uint64_t kEveryMs = 1000;
  const Backend* backend = source();
  if (backend->surplus_bytes == nullptr || is_inside()) return;
  uint64_t asked = g_asked.load(std::memory_order_relaxed), clock = core::os::now_ms();
  if (!now && clock < asked + kEveryMs) return;
  if (!g_asked.compare_exchange_strong(asked, clock, std::memory_order_relaxed)) return;
  Inside inside;
  g_surplus.store(backend->surplus_bytes(backend->taken.load(std::memory_order_relaxed)),
                  std::memory_order_relaxed);
}

}  // namespace tally::core::backend
