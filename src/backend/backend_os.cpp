// The backend "os": mappings straight from the kernel.
#include <atomic>

#include "backend/backend.h"
#include "os/os.h"

namespace tally::core::backend {
namespace {
constinit std::atomic<size_t> g_held{0};
}

const char* name() { return "os"; }

void* take(size_t bytes, size_t alignment) {
  void* p = os::map(bytes, alignment);
  if (p != nullptr) g_held.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}

bool take_again(void* p, size_t bytes) {
  if (!os::map_at(p, bytes)) return false;
  g_held.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool give(void* p, size_t bytes) {
  if (!os::unmap(p, bytes)) return false;
  g_held.fetch_sub(bytes, std::memory_order_relaxed);
  return true;
}

bool purge(void* p, size_t bytes) { return os::purge(p, bytes); }

void prefer_huge_pages(void* p, size_t bytes, bool yes) { os::prefer_huge_pages(p, bytes, yes); }

void* resize(void* p, size_t bytes, size_t new_bytes, size_t alignment) {
  void* moved = os::remap(p, bytes, new_bytes, alignment);
  if (moved != nullptr) g_held.fetch_add(new_bytes - bytes, std::memory_order_relaxed);
  return moved;
}

size_t held_bytes() { return g_held.load(std::memory_order_relaxed); }

}  // namespace tally::core::backend
