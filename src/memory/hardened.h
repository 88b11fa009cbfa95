// What libtally-hardened.so does more, of blocks: links that are encoded, a seal on each block, and
// memory that is zero while it is free. (Of pages: memory/guard.h.) All of it is decided at compile
// time: in the default build `Block` is a pointer, and nothing else here is called.
//
//   a live block:  [ n bytes that were asked for | canary, up to 32 bytes | ... | seal ]
//   a free block:  [ link | zero, up to kWipedMost bytes | ... | seal ]
//   a large block: [ n bytes that were asked for | canary, to the end of the last page ]
//
// Canary and seal are made of the block's address and a secret of the process, and the seal tells
// how far before it the canary begins, or that the block is free. So a block that is freed twice is
// known at once, wherever it is by then; an overflow by a byte at the block's free; and a write to
// a block that is free when it is used again (a long one is looked at whole by turns). What was
// freed last in a slab stays behind when its blocks are taken (heap/slab.cpp).
#pragma once

#include <string.h>

#include <array>
#include <bit>
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
    Block* link;
    return TALLY_LIKELY(read_next(&link)) ? link : hardened::report_link(this);
  }
  // Hardened. False: the link was written to.
  bool read_next(Block** next) const {
    const uintptr_t link = hardened::decode(this, address(next_));
    *next = reinterpret_cast<Block*>(link);
    return TALLY_LIKELY(hardened::is_link(link));
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
// Blocks up to this are wiped without a call.
inline constexpr size_t kWipedInline = 128;
// What was wiped is looked at before the block is used again: so much of it, and all one time in
// kSeenTurns. To read all of each takes a program of long blocks up to a quarter more, as by then
// they are in no cache near by, while nobody waits for the writes.
inline constexpr size_t kSeenLeast = kWipedInline - 2 * sizeof(uint64_t);
inline constexpr unsigned kSeenTurns = 8;
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

using Two [[gnu::vector_size(16)]] = uint64_t;
inline Two load_two(const char* from) {
  Two words;
  memcpy(&words, from, sizeof words);
  return words;
}
// How far before the seal the canary begins, as the word of a live block's seal says; of any other
// word more than a block has.
inline uint64_t slack_in(uint64_t word, uint64_t canary) { return std::rotr(word ^ canary, 8); }

enum class State : uint8_t { kLive, kFree, kDamaged };
struct Seal {
  State state;
  uint32_t bytes;  // of a live block: those that were asked for
};
inline Seal read_seal(uint64_t word, const void* block, size_t size) {
  const uint64_t canary = canary_of(block);
  const uint64_t slack = slack_in(word, canary);
  if (TALLY_LIKELY(slack <= size - sizeof(uint64_t))) {
    return {State::kLive, static_cast<uint32_t>(size - sizeof(uint64_t) - slack)};
  }
  return {word == (canary ^ kFreeMark) ? State::kFree : State::kDamaged, 0};
}
inline Seal look_at_seal(const void* block, size_t size) {
  return read_seal(load_seal(seal_at(block, size)), block, size);
}

// The canary's first word lies where the program's bytes end, or where it ends at the seal. Then
// its first bytes are the program's: half as many bits as they have.
inline size_t before_seal(size_t slack) { return max_of(slack, sizeof(uint64_t)); }
inline unsigned half_of_kept(size_t slack) {
  return 4 * static_cast<unsigned>(before_seal(slack) - slack);
}
inline uint64_t behind_kept(uint64_t word, unsigned half) { return word << half << half; }
inline size_t canary_words(size_t slack) { return min_of(slack / sizeof(uint64_t), kCanaryMost); }

// What malloc and free do with each block takes as many steps for any number of bytes, some of them
// twice: a loop with as many rounds as there are costs more, as no processor foretells its end.

// Of a block up to kWipedInline, what is wiped, in pieces of two words.
template <class Step>
[[gnu::always_inline]] inline void for_each_piece(size_t size, Step step) {
  constexpr size_t kPiece = sizeof(Two);
  const size_t wiped = size - 2 * sizeof(uint64_t);
  if (wiped > 3 * kPiece) {
    static_assert(8 * kPiece == kWipedInline);
#pragma GCC unroll 4
    for (size_t at = 0; at < 4 * kPiece; at += kPiece) step(at);
#pragma GCC unroll 4
    for (size_t at = 4 * kPiece; at != 0; at -= kPiece) step(wiped - at);
  } else if (wiped != 0) {
    step(0);
    step(wiped / 2 & ~(kPiece - 1));
    step(wiped - kPiece);
  }
}
// The words of a canary, or the one that ends at the seal, by their places. kIsShort here and
// below: of blocks up to kWipedInline, whose classes are so near to each other that there is one.
static_assert(kWipedInline == kLinearMax && kMinAlignment == 2 * sizeof(uint64_t));
template <bool kIsShort, class Step>
[[gnu::always_inline]] inline void for_each_word(size_t slack, Step step) {
  step(0);
  if constexpr (kIsShort) return;
  static_assert(kCanaryMost == 4);
  const size_t last = max_of(canary_words(slack), 1) - 1;
  step(last * sizeof(uint64_t));
  step(last / 2 * sizeof(uint64_t));
  step((last + 1) / 2 * sizeof(uint64_t));
}

// Canary and seal of a live block, whose word before the seal has `kept` of the program, if it is
// the canary's only one.
template <bool kIsShort = false>
inline void seal_block(void* block, uint64_t canary, size_t size, size_t slack, uint64_t kept) {
  char* seal = seal_at(block, size);
  char* at = seal - before_seal(slack);
  const uint64_t word = behind_kept(canary, half_of_kept(slack)) | kept;
  for_each_word<kIsShort>(slack, [at, word](size_t place) { store(at + place, word); });
  store_seal(seal, canary ^ slack << 8);
}
// The block, of this class, is live and has `n` bytes from now on: those that were asked for if
// they are why it is of this class, else all that fit.
inline void set_bytes(void* block, unsigned c, size_t n) {
  const size_t size = kClassSizes[c];
  if (TALLY_UNLIKELY(c != 0 && n + kSealBytes <= kClassSizes[c - 1])) n = size - kSealBytes;
  const size_t slack = size - sizeof(uint64_t) - n;
  const uint64_t last = load(seal_at(block, size) - before_seal(slack));
  seal_block(block, canary_of(block), size, slack,
             last & ~behind_kept(~uint64_t{0}, half_of_kept(slack)));
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
  const size_t words = canary_words(slack);
  if (words == 0) return find_damage(block, at, (uint64_t{1} << 8 * slack) - 1);
  const char* found = nullptr;
  for (size_t i = 0; i < words && found == nullptr; ++i) {
    found = find_damage(block, at + i * sizeof(uint64_t));
  }
  return found;
}
// Whether the block is live and nothing was written behind it, nor, if one of its slab lies there,
// before it. False: it takes a closer look to tell what is wrong, if anything.
template <bool kIsShort = false>
inline bool is_sound(const void* block, uint64_t canary, size_t size, bool is_first) {
  const char* seal = seal_at(block, size);
  const uint64_t slack = slack_in(load_seal(seal), canary);
  if (TALLY_UNLIKELY(slack > size - sizeof(uint64_t))) return false;
  const char* at = seal - before_seal(slack);
  const unsigned half = half_of_kept(slack);
  const uint64_t word = behind_kept(canary, half);
  uint64_t damage = 0;
  for_each_word<kIsShort>(slack, [&](size_t place) { damage |= load(at + place) ^ word; });
  if (TALLY_UNLIKELY(damage >> half >> half != 0)) return false;
  if (is_first) return true;
  const char* before = static_cast<const char*>(block) - size;
  return TALLY_LIKELY(slack_in(load_seal(seal - size), canary_of(before)) <= kFreeMark >> 8);
}

// A block is free from now on, and not linked yet. `all`: nothing of its content is to stay.
inline void close(void* block, uint64_t canary, size_t size, bool all) {
  store_seal(seal_at(block, size), canary ^ kFreeMark);
  char* wiped = static_cast<char*>(block) + sizeof(uint64_t);
  if (size > kWipedInline) {
    memset(wiped, 0, all ? size - 2 * sizeof(uint64_t) : wiped_bytes(size));
    return;
  }
  for_each_piece(size, [wiped](size_t at) {
    const Two zero = {0, 0};
    memcpy(wiped + at, &zero, sizeof zero);
  });
}
inline void close(void* block, size_t size, bool all) { close(block, canary_of(block), size, all); }
// Whether nobody wrote to what was wiped of a free block up to kWipedInline, or of a longer one
// where one of `size` bytes would be.
inline bool is_wiped_short(const Block* block, size_t size) {
  const char* wiped = reinterpret_cast<const char*>(block) + sizeof(uint64_t);
  Two seen = {0, 0};
  for_each_piece(size, [&](size_t at) { seen |= load_two(wiped + at); });
  return (seen[0] | seen[1]) == 0;
}
// Whether nobody wrote to the first so many bytes of those that were wiped of a free block.
inline bool is_wiped(const Block* block, size_t bytes) {
  const char* at = reinterpret_cast<const char*>(block) + sizeof(uint64_t);
  const char* end = at + bytes;
  Two seen = {0, 0};
  for (; end - at >= 64; at += 64) {
    seen |= load_two(at) | load_two(at + 16) | load_two(at + 32) | load_two(at + 48);
  }
  for (; at != end; at += sizeof seen) seen |= load_two(at);
  return (seen[0] | seen[1]) == 0;
}
// The first byte of a free block that was written to; nullptr: none.
inline const char* find_write(const Block* block, size_t size) {
  if (is_wiped(block, wiped_bytes(size))) return nullptr;
  const char* start = reinterpret_cast<const char*>(block) + sizeof(uint64_t);
  while (*start == 0) ++start;
  return start;
}
// Likewise, of a block that is off its list, and that it is free. `all`: of a long block, too, all
// of what was wiped is looked at, and not kSeenLeast bytes alone, which are seen as a short one's.
template <bool kIsShort = false>
inline bool is_untouched(const Block* block, uint64_t canary, size_t size, bool all) {
  if (load_seal(seal_at(block, size)) != (canary ^ kFreeMark)) return false;
  if constexpr (kIsShort) return is_wiped_short(block, size);
  if (TALLY_UNLIKELY(all)) return is_wiped(block, wiped_bytes(size));
  return is_wiped_short(block, min_of(size, kSeenLeast + 2 * sizeof(uint64_t)));
}
// It becomes one of `n` bytes, which are why it is of this class. All that was wiped is zero.
template <bool kIsShort = false>
inline void open(Block* block, uint64_t canary, size_t size, size_t n) {
  store(reinterpret_cast<char*>(block), 0);
  seal_block<kIsShort>(block, canary, size, size - sizeof(uint64_t) - n, 0);
}

// ---- Large blocks. Behind their bytes each word to the end of the page is the canary, and no byte
// of it zero; so it stays as it is where a block grows within its pages.

inline uint64_t slack_word(const void* block) { return canary_of(block) | 0x0101010101010101; }
inline char slack_byte(uint64_t word, const char* at) {
  return static_cast<char>(word >> address(at) % sizeof word * 8);
}
inline void fill_slack(const void* block, char* at, size_t slack) {
  const uint64_t word = slack_word(block);
  const Two two = {word, word};
  const char* end = at + slack;
  for (; at != end && address(at) % sizeof two != 0; ++at) *at = slack_byte(word, at);
  for (; at != end; at += sizeof two) memcpy(at, &two, sizeof two);
}
// The first byte of it that was written to; nullptr: none.
inline const char* find_in_slack(const void* block, const char* at, size_t slack) {
  const uint64_t word = slack_word(block);
  const Two two = {word, word};
  const char* end = at + slack;
  for (; at != end && address(at) % sizeof two != 0; ++at) {
    if (*at != slack_byte(word, at)) return at;
  }
  Two damage = {0, 0};
  for (const char* each = at; each != end; each += sizeof two) damage |= load_two(each) ^ two;
  if (TALLY_LIKELY((damage[0] | damage[1]) == 0)) return nullptr;
  while (*at == slack_byte(word, at)) ++at;
  return at;
}

// So many neighbours come in an order of chance.
inline constexpr uint32_t kMixed = 4;

// The numbers below `count`, which is at most kMost, each kMixed of them in an order of chance; in
// the default build, in their own. (All of them in such an order made a program that goes through
// what it allocated a third slower, and eight at a time a tenth, as what it needs next is then
// fetched by no processor.)
template <uint32_t kMost>
class Order {
 public:
  explicit Order(uint32_t count) {
    if constexpr (!kHardened) return;
    uint64_t chance = draw();
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t first = i / kMixed * kMixed;
      chance = chance * 0xd1342543de82ef95 + 1;
      const auto j = first + static_cast<uint32_t>((chance >> 32) * (i - first + 1) >> 32);
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
