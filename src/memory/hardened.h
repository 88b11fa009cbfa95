// What libtally-hardened.so does more, of blocks: links that are encoded, a seal on each block, and
// memory that is zero while it is free. (Of pages: memory/guard.h.) All of it is decided at compile
// time: in the default build `Block` is a pointer, and nothing else here is called.
//
//   a live block:  [ n bytes that were asked for | canary, up to 32 bytes | ... | seal ]
//   a free block:  [ link | zero, up to kWipedMost bytes | ... | seal ]
//
// Canary and seal are made of the block's address and a secret of the process, and the seal tells
// how far before it the canary begins, or that the block is free. So a block that is freed twice is
// known at once, wherever it is by then; an overflow by a byte at the block's free; and a write to
// a block that is free when it is used again. A block that is freed waits in its heap's returns, of
// which the older half goes back at a time (heap/returns.cpp).
#pragma once

#include <string.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/config.h"
#include "base/math.h"
#include "memory/size_class.h"

namespace tally::core {

struct Block;

namespace hardened {

struct Secret {
  uint64_t link = 0, seal = 0;
};
// Written once, by start, before there is a block.
extern constinit Secret secret;
void start();

// Chance; by draws that nobody can foretell who does not know the secret. Any thread.
uint64_t draw();

// Provided by the layer above: the link of a free block was written to. Returns nullptr, if at all.
Block* report_link(const Block* block);

// ---- Links. A product carries what was changed in a stored word on to the upper bits of what is
// read, where an address has none.

inline constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;
inline constexpr uint64_t kInverse = 0xf1de83e19937733d;
static_assert(kFactor * kInverse == 1);

inline uint64_t encode(const void* place, const void* link) {
  return (address(link) ^ address(place) ^ secret.link) * kFactor;
}
// Meaningless if it was written to: then is_link tells so, but for one in a million.
inline uintptr_t decode(const void* place, uint64_t stored) {
  return (stored * kInverse) ^ address(place) ^ secret.link;
}
inline bool is_link(uintptr_t link) {
  return (link & (~uintptr_t{0} << 48 | (kMinAlignment - 1))) == 0;
}

}  // namespace hardened

// A free block: its first word links it.
struct Block {
 public:
  Block* next() const {
    if constexpr (!kHardened) return next_;
    uintptr_t link = hardened::decode(this, address(next_));
    if (TALLY_UNLIKELY(!hardened::is_link(link))) return hardened::report_link(this);
    return reinterpret_cast<Block*>(link);
  }
  void link(Block* next) {
    next_ = kHardened ? reinterpret_cast<Block*>(hardened::encode(this, next)) : next;
  }

 private:
  Block* next_;
};

namespace hardened {

// ---- Seals.

// Words of a canary.
inline constexpr size_t kCanaryMost = 4;
// Bytes of a free block that are zero at least, behind the link.
inline constexpr size_t kWipedMost = kSmallMax;
inline constexpr uint64_t kFreeMark = 0xffff00;
static_assert(kMediumMax - sizeof(uint64_t) < kFreeMark >> 8);

inline constexpr auto kClassSizes = [] {
  std::array<uint32_t, kClasses> sizes{};
  for (unsigned c = 0; c < kClasses; ++c) sizes[c] = static_cast<uint32_t>(class_size(c));
  return sizes;
}();

// Its first byte is not zero, as the most common overflow by one is by a zero.
inline uint64_t canary_of(const void* block) {
  return __builtin_bswap64((address(block) ^ secret.seal) * kFactor) | 1;
}
inline uint64_t load(const char* from) {
  uint64_t word;
  memcpy(&word, from, sizeof word);
  return word;
}
inline void store(char* to, uint64_t word) { memcpy(to, &word, sizeof word); }
// The free of a block looks at the seal before it, which may be another thread's.
inline uint64_t load_seal(const char* from) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(from), __ATOMIC_RELAXED);
}
inline void store_seal(char* to, uint64_t word) {
  __atomic_store_n(reinterpret_cast<uint64_t*>(to), word, __ATOMIC_RELAXED);
}

inline char* seal_at(void* block, size_t size) {
  return static_cast<char*>(block) + size - sizeof(uint64_t);
}
inline const char* seal_at(const void* block, size_t size) {
  return static_cast<const char*>(block) + size - sizeof(uint64_t);
}
// What is wiped of a free block, behind its link.
inline size_t wiped_bytes(size_t size) { return min_of(size - 2 * sizeof(uint64_t), kWipedMost); }

enum class State : uint8_t { kLive, kFree, kDamaged };
struct Seal {
  State state;
  uint32_t bytes;  // of a live block: those that were asked for
};
inline Seal read_seal(uint64_t word, const void* block, size_t size) {
  word ^= canary_of(block);
  uint64_t slack = word >> 8;
  if (TALLY_LIKELY((word & 0xff) == 0 && slack <= size - sizeof(uint64_t))) {
    return {State::kLive, static_cast<uint32_t>(size - sizeof(uint64_t) - slack)};
  }
  return {word == kFreeMark ? State::kFree : State::kDamaged, 0};
}
inline Seal look_at_seal(const void* block, size_t size) {
  return read_seal(load_seal(seal_at(block, size)), block, size);
}

// The block, of this class, is live and has `n` bytes from now on: those that were asked for if
// they are why it is of this class, else all that fit.
inline void set_bytes(void* block, unsigned c, size_t n) {
  const size_t size = kClassSizes[c];
  if (TALLY_UNLIKELY(c != 0 && n + kSealBytes <= kClassSizes[c - 1])) n = size - kSealBytes;
  const uint64_t canary = canary_of(block);
  char* seal = seal_at(block, size);
  const size_t slack = size - sizeof(uint64_t) - n;
  char* at = static_cast<char*>(block) + n;
  const size_t words = min_of(slack / sizeof(uint64_t), kCanaryMost);
  for (size_t i = 0; i < words; ++i, at += sizeof(uint64_t)) store(at, canary);
  if (words == 0 && slack != 0) {
    const unsigned kept = 64 - 8 * static_cast<unsigned>(slack);
    char* last = seal - sizeof(uint64_t);
    store(last, (load(last) & ((uint64_t{1} << kept) - 1)) | canary << kept);
  }
  store_seal(seal, canary ^ slack << 8);
}
// The first byte of a word at `at`, a canary if nobody wrote to it, where somebody did; nullptr:
// nobody.
inline const char* find_damage(const void* block, const char* at, uint64_t mask = ~uint64_t{0}) {
  const uint64_t damage = (load(at) ^ canary_of(block)) & mask;
  if (TALLY_LIKELY(damage == 0)) return nullptr;
  return at + static_cast<unsigned>(__builtin_ctzll(damage)) / 8;
}
// Likewise of the canary behind a live block's bytes.
inline const char* find_overflow(const void* block, size_t size, uint32_t bytes) {
  const size_t slack = size - sizeof(uint64_t) - bytes;
  const char* at = static_cast<const char*>(block) + bytes;
  const size_t words = min_of(slack / sizeof(uint64_t), kCanaryMost);
  if (words == 0) return find_damage(block, at, (uint64_t{1} << 8 * slack) - 1);
  const char* found = nullptr;
  for (size_t i = 0; i < words && found == nullptr; ++i) {
    found = find_damage(block, at + i * sizeof(uint64_t));
  }
  return found;
}

// A block is free from now on, and not linked yet. `all`: nothing of its content is to stay.
inline void close(void* block, size_t size, bool all) {
  char* wiped = static_cast<char*>(block) + sizeof(uint64_t);
  memset(wiped, 0, all ? size - 2 * sizeof(uint64_t) : wiped_bytes(size));
  store_seal(seal_at(block, size), canary_of(block) ^ kFreeMark);
}
// The first byte of a free block that was written to; nullptr: none.
inline const char* find_write(const Block* block, size_t size) {
  using Two [[gnu::vector_size(16), gnu::aligned(8), gnu::may_alias]] = uint64_t;
  const char* start = reinterpret_cast<const char*>(block) + sizeof(uint64_t);
  const char* end = start + wiped_bytes(size);
  Two seen = {0, 0};
  for (const char* at = start; at != end; at += sizeof(Two)) {
    seen |= *reinterpret_cast<const Two*>(at);
  }
  if (TALLY_LIKELY((seen[0] | seen[1]) == 0)) return nullptr;
  while (*start == 0) ++start;
  return start;
}
// A free block, taken off its list, becomes one of `n` bytes. All that was wiped is zero.
inline void open(Block* block, unsigned c, size_t n) {
  store(reinterpret_cast<char*>(block), 0);
  set_bytes(block, c, n);
}

// The numbers below `count`, which is at most kMost, in an order of chance; in the default build,
// in their own.
template <uint32_t kMost>
class Order {
 public:
  explicit Order(uint32_t count) {
    if constexpr (!kHardened) return;
    uint64_t chance = draw();
    for (uint32_t i = 0; i < count; ++i) {
      chance = chance * 0xd1342543de82ef95 + 1;
      const auto j = static_cast<uint32_t>((chance >> 32) * (i + 1) >> 32);
      numbers_[i] = numbers_[j];
      numbers_[j] = static_cast<uint16_t>(i);
    }
  }
  uint32_t of(uint32_t i) const { return kHardened ? numbers_[i] : i; }

 private:
  uint16_t numbers_[kHardened ? kMost : 1];
};

}  // namespace hardened
}  // namespace tally::core
