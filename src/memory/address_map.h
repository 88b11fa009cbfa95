// From any address to the descriptor of what lies there: two levels, a granule of one slot, no
// branch.
//
// Entries are offsets from the map's own start, so that zero is a valid answer: a root entry of
// zero leads to a leaf of zeroes, and a leaf entry of zero to `none`, a descriptor that nobody
// owns. An unknown address costs no test. Bits 48 and up are cut off: such a pointer cannot be read
// anyway, and faults at the first access.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/config.h"
#include "base/math.h"
#include "memory/slab.h"

namespace tally::core {

class AddressMap {
 public:
  // Any thread, any pointer. `none()` for addresses that are not ours.
  Slab* find(const void* p) const {
    uint32_t slot = static_cast<uint32_t>(address(p) >> kSlotShift);
    if constexpr (kSingleInstructionCounters) {
      // As below, eight instructions with the caller's; compilers take ten and more for atomic
      // loads.
      uintptr_t leaf = address(this), slab = address(this);
      size_t in_leaf;
      asm("movzwl %w1, %k0" : "=r"(in_leaf) : "r"(slot));
      size_t in_root = slot >> kLeafBits;
      asm("addq %c3(%1,%2,8), %0"
          : "+r"(leaf)
          : "r"(this), "r"(in_root), "i"(offsetof(AddressMap, root_))
          : "memory");
      asm("addq %c3(%1,%2,8), %0"
          : "+r"(slab)
          : "r"(leaf), "r"(in_leaf), "i"(offsetof(AddressMap, no_leaf_))
          : "memory");
      return reinterpret_cast<Slab*>(slab);
    }
    uintptr_t leaf = address(this) + load(root_[slot >> kLeafBits]);
    return reinterpret_cast<Slab*>(address(this) + load(at(leaf, static_cast<uint16_t>(slot))));
  }
  const Slab* none() const { return &none_; }

  // Central lock held. Makes sure that [p, p + bytes) can be set; false if there is no memory.
  bool prepare(const void* p, size_t bytes);
  // Central lock held. Keeps one leaf in hand, so that the next prepare of one slot cannot fail.
  bool reserve();
  // The slot that holds p resolves to `slab`, or to none with nullptr. Prepared before.
  void set(const void* p, const Slab* slab) {
    uintptr_t slot = address(p) >> kSlotShift;
    uintptr_t leaf = address(this) + load(root_[static_cast<uint32_t>(slot) >> kLeafBits]);
    at(leaf, static_cast<uint16_t>(slot))
        .store(slab == nullptr ? 0 : address(slab) - address(this), std::memory_order_release);
  }

 private:
  using Entry = std::atomic<uintptr_t>;
  static constexpr unsigned kLeafBits = 16;
  static constexpr size_t kEntries = size_t{1} << kLeafBits;

  static uintptr_t load(const Entry& entry) { return entry.load(std::memory_order_relaxed); }
  // A leaf is addressed by where it would start if it were a map, so that root zero means no_leaf_.
  static Entry& at(uintptr_t leaf, size_t index);

  Slab none_ = {};
  Entry root_[kEntries] = {};
  Entry no_leaf_[kEntries] = {};  // never written
};

inline AddressMap::Entry& AddressMap::at(uintptr_t leaf, size_t index) {
  return reinterpret_cast<Entry*>(leaf + offsetof(AddressMap, no_leaf_))[index];
}

// All zero, so in .bss: of its megabyte only the pages of entries in use are ever touched.
extern constinit AddressMap address_map;

}  // namespace tally::core
