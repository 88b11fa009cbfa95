#include "memory/address_map.h"

#include "backend/backend.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core {

constinit AddressMap address_map = {};

namespace {
constinit void* g_spare_leaf = nullptr;
}

bool AddressMap::reserve() {
  if (g_spare_leaf != nullptr) return true;
  // Charged when it is taken, so that what it was taken for cannot fail.
  if (!meta::charge(os::page_size())) return false;
  g_spare_leaf = meta::map(sizeof no_leaf_);
  if (g_spare_leaf == nullptr) meta::uncharge(os::page_size());
  return g_spare_leaf != nullptr;
}

bool AddressMap::prepare(const void* p, size_t bytes) {
  uintptr_t first = address(p) >> (kSlotShift + kLeafBits);
  uintptr_t last = (address(p) + bytes - 1) >> (kSlotShift + kLeafBits);
  for (uintptr_t i = first; i <= last; ++i) {
    Entry& root = root_[i & (kEntries - 1)];
    if (load(root) != 0) continue;
    if (!reserve()) return false;
    void* leaf = g_spare_leaf;
    g_spare_leaf = nullptr;
    root.store(address(leaf) - offsetof(AddressMap, no_leaf_) - address(this),
               std::memory_order_release);
  }
  return true;
}

}  // namespace tally::core
