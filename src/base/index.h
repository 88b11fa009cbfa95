// Finds entries of an array, which somebody else keeps, by their hashes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

// Open addressing, linear. It grows within memory that is given once, each time into the part
// behind the old one, so that only what is used of that is ever touched. Hashes are spread over 32
// bits.
class Index {
 public:
  static constexpr uint32_t kNone = ~0U;

  // What it needs for so many entries, a power of two, if each is to be found in a step or two.
  static constexpr size_t slots_for(size_t entries) { return entries * 4; }

  // `memory`: zeroed slots.
  void reset(uint32_t* memory, size_t slots) {
    memory_ = memory;
    most_ = static_cast<uint32_t>(slots / 2);
    mask_ = kFirst - 1;
    slots_ = memory + kFirst;
    count_ = 0;
  }
  // The entry with this hash for which is(entry); kNone if there is none.
  template <class Is>
  uint32_t find(uint32_t hash, Is is) const {
    for (uint32_t i = hash & mask_; slots_[i] != 0; i = (i + 1) & mask_) {
      if (is(slots_[i] - 1)) return slots_[i] - 1;
    }
    return kNone;
  }
  // `entry` is none of it yet, and hash_of(entry) tells the hash of it and of all others.
  template <class HashOf>
  void add(uint32_t entry, HashOf hash_of) {
    if ((count_ + 1) * 2 > mask_ + 1 && mask_ + 1 < most_) grow(hash_of);
    put(entry, hash_of(entry));
    ++count_;
  }
  template <class HashOf>
  void remove(uint32_t entry, HashOf hash_of) {
    uint32_t gap = hash_of(entry) & mask_;
    while (slots_[gap] != entry + 1) gap = (gap + 1) & mask_;
    // Those behind it that would not be found any more move up.
    for (uint32_t i = (gap + 1) & mask_; slots_[i] != 0; i = (i + 1) & mask_) {
      uint32_t home = hash_of(slots_[i] - 1) & mask_;
      if (((i - home) & mask_) < ((i - gap) & mask_)) continue;
      slots_[gap] = slots_[i];
      gap = i;
    }
    slots_[gap] = 0;
    --count_;
  }

 private:
  static constexpr uint32_t kFirst = 64;

  void put(uint32_t entry, uint32_t hash) {
    uint32_t i = hash & mask_;
    while (slots_[i] != 0) i = (i + 1) & mask_;
    slots_[i] = entry + 1;
  }
  // A table of so many slots begins as many slots behind the memory's start.
  template <class HashOf>
  void grow(HashOf hash_of) {
    const uint32_t* old = slots_;
    uint32_t size = mask_ + 1;
    mask_ = size * 2 - 1;
    slots_ = memory_ + size * 2;
    for (uint32_t i = 0; i < size; ++i) {
      if (old[i] != 0) put(old[i] - 1, hash_of(old[i] - 1));
    }
  }

  uint32_t* memory_ = nullptr;
  uint32_t* slots_ = nullptr;
  uint32_t mask_ = 0;
  uint32_t most_ = 0;
  uint32_t count_ = 0;
};

}  // namespace tally::core
