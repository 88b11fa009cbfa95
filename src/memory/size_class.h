// Size classes: 16-byte steps to 128, then four per doubling. Rounding wastes at most a fifth of a
// block above 128 bytes, 11 % on average; finer classes would cost more in half-filled slabs than
// they save.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/config.h"

namespace tally::core {

inline constexpr size_t kMinAlignment = 16;
inline constexpr size_t kLinearMax = 128;
inline constexpr unsigned kLinearClasses = kLinearMax / kMinAlignment;

// n > kLinearMax. The top three bits of n - 1 select the class.
constexpr unsigned geometric_class(size_t n) {
  unsigned top = static_cast<unsigned>(std::bit_width(n - 1)) - 1;
  unsigned quarter = static_cast<unsigned>((n - 1) >> (top - 2)) & 3;
  return kLinearClasses + (top - 7) * 4 + quarter;
}
inline constexpr unsigned kClasses = geometric_class(kMediumMax) + 1;

constexpr size_t class_size(unsigned c) {
  if (c < kLinearClasses) return (c + 1) * kMinAlignment;
  unsigned top = 7 + (c - kLinearClasses) / 4;
  return (size_t{5} + (c - kLinearClasses) % 4) << (top - 2);
}

// The class times kClassTableUnit, by (n - 1) / 32, for kLinearMax < n <= kSmallMax.
inline constexpr size_t kTableStep = 32;
inline constexpr uint8_t kClassTableUnit = 4;
inline constexpr auto kClassTable = [] {
  std::array<uint8_t, kSmallMax / kTableStep> table{};
  for (size_t i = kLinearMax / kTableStep; i < table.size(); ++i) {
    table[i] = static_cast<uint8_t>(geometric_class(i * kTableStep + 1) * kClassTableUnit);
  }
  return table;
}();

// 1 <= n <= kMediumMax.
constexpr unsigned class_of(size_t n) {
  return n <= kLinearMax ? static_cast<unsigned>((n - 1) / kMinAlignment) : geometric_class(n);
}

// Of what a program asks for: the most that a block of a slab holds, and the class for 1 <= n <=
// kBlockMost.
inline constexpr size_t kBlockMost = kMediumMax - kSealBytes;
constexpr unsigned class_for(size_t n) { return class_of(n + kSealBytes); }

// Whether an offset below 4 GiB is a multiple of the class's size, by one multiplication: Granlund
// and Montgomery, "Division by invariant integers using multiplication", PLDI 1994, section 9.
struct Multiples {
  uint32_t inverse;  // of the size's odd part, modulo 2^32
  uint32_t most;     // the largest quotient
  int twos;          // factors of two in the size

  constexpr bool contain(uint32_t offset) const {
    return std::rotr(offset * inverse, twos) <= most;
  }
};
inline constexpr auto kMultiples = [] {
  std::array<Multiples, kClasses> table{};
  for (unsigned c = 0; c < kClasses; ++c) {
    auto size = static_cast<uint32_t>(class_size(c));
    int twos = std::countr_zero(size);
    uint32_t odd = size >> twos;
    uint32_t inverse = odd;  // right in three bits, and in twice as many after each step
    for (int i = 0; i < 4; ++i) inverse *= 2 - odd * inverse;
    table[c] = {inverse, UINT32_MAX / size, twos};
  }
  return table;
}();
static_assert(kMultiples[class_of(48)].contain(480) && !kMultiples[class_of(48)].contain(488));
static_assert(kMultiples[class_of(320)].contain(640) && !kMultiples[class_of(320)].contain(656));

// Blocks of each class are aligned to this at least: slabs start at a page.
constexpr size_t class_alignment(unsigned c) {
  size_t size = class_size(c);
  return size & -size;
}

constexpr unsigned slots_of_slab(unsigned c) {
  return class_size(c) <= kOneSlotMax ? 1 : class_size(c) <= kSmallMax ? kSmallSlots : kMediumSlots;
}

static_assert(class_size(kClasses - 1) == kMediumMax);
static_assert(class_size(class_of(kSmallMax)) == kSmallMax);
static_assert(kClasses == 44);
static_assert(
    [] {
      for (unsigned c = 0; c < kClasses; ++c) {
        size_t size = class_size(c);
        if (class_of(size) != c || (c + 1 < kClasses && class_of(size + 1) != c + 1)) return false;
        bool in_table = size > kLinearMax && size <= kSmallMax;
        if (in_table && kClassTable[(size - 1) / kTableStep] != c * kClassTableUnit) return false;
        if (in_table && size < kSmallMax &&
            kClassTable[size / kTableStep] != (c + 1) * kClassTableUnit) {
          return false;
        }
      }
      return true;
    }(),
    "each size has the smallest class that holds it");

}  // namespace tally::core
