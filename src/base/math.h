// Small arithmetic.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tally::core {

constexpr bool is_power_of_two(size_t n) { return std::has_single_bit(n); }
// `to` is a power of two; wraps for sizes within `to` of the top.
constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }
constexpr size_t divide_up(size_t n, size_t by) { return (n + by - 1) / by; }
constexpr size_t min_of(size_t a, size_t b) { return a < b ? a : b; }
constexpr size_t max_of(size_t a, size_t b) { return a > b ? a : b; }
inline uintptr_t address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace tally::core
