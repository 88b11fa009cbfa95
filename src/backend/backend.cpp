#include "backend/backend.h"

#include <errno.h>
#include <string.h>

#include "base/config.h"
#include "base/math.h"
#include "os/os.h"

namespace tally::core::backend {
namespace {

constinit Backend* const g_all[] = {&os, &libc, &jemalloc, &mimalloc};
constinit std::atomic<Backend*> g_selected{&os};
constinit std::atomic<bool> g_may_ask{false};
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

void select(Backend* backend, bool may_ask) {
  g_may_ask.store(may_ask, std::memory_order_relaxed);
  g_selected.store(backend, std::memory_order_release);
}
Backend* selected() { return g_selected.load(std::memory_order_acquire); }

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
  Inside inside;
  if (!from->give(p, bytes)) return false;
  from->taken.fetch_sub(bytes, std::memory_order_relaxed);
  return true;
}

void* resize(Backend* from, void* p, size_t bytes, size_t new_bytes, size_t alignment) {
  if (from->resize == nullptr) return nullptr;
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

bool is_inside() { return t_inside; }

size_t held_bytes() {
  size_t bytes = 0;
  for (const Backend* backend : g_all) bytes += backend->taken.load(std::memory_order_relaxed);
  return bytes;
}

uint64_t surplus_bytes() {
  const Backend* backend = selected();
  // A signal may have interrupted a call.
  if (backend->surplus_bytes == nullptr || is_inside()) return 0;
  if (!g_may_ask.load(std::memory_order_relaxed)) return 0;
  Inside inside;
  return backend->surplus_bytes(backend->taken.load(std::memory_order_relaxed));
}

}  // namespace tally::core::backend
