// Which bytes of those that are allocated are sampled: points of a Poisson process, one in `rate`
// in the mean. As it has no memory, it may be begun anew at any byte: nothing of it is kept between
// lists of blocks.
#pragma once

#include <bit>
#include <cstdint>

namespace tally::core {

// The natural logarithm of a number in (0, 1], to 12 digits; libm is not ours to need.
inline double log_of(double u) {
  constexpr double kLn2 = 0.6931471805599453;
  uint64_t bits = std::bit_cast<uint64_t>(u);
  double exponent = static_cast<double>(static_cast<int>(bits >> 52) - 1022);
  double m = std::bit_cast<double>((bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1022} << 52);
  if (m < 0.7071067811865476) {
    m *= 2;
    exponent -= 1;
  }
  // ln m = 2 artanh((m - 1) / (m + 1)), where the argument is at most .172.
  double s = (m - 1) / (m + 1), power = s, sum = 0;
  for (int i = 1; i < 17; i += 2, power *= s * s) sum += power / i;
  return 2 * sum + exponent * kLn2;
}

// 1 - e^-x for x >= 0, precise for small ones too.
inline double one_less_exp(double x) {
  if (x > 40) return 1;
  if (x > 0.5) {
    double half = one_less_exp(x / 2);
    return half * (2 - half);  // 1 - (1 - half)^2
  }
  double term = x, sum = 0;
  for (int i = 2; i < 16; ++i) {
    sum += term;
    term *= -x / i;
  }
  return sum;
}

// That at least one of so many bytes is a point.
inline double chance(uint64_t bytes, uint64_t rate) {
  return one_less_exp(static_cast<double>(bytes) / static_cast<double>(rate));
}

// xorshift64*: its state is never 0.
inline uint64_t next_random(uint64_t* state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1d;
}
// Uniform in (0, 1).
inline double next_uniform(uint64_t* state) {
  return (static_cast<double>(next_random(state) >> 11) + .5) * 0x1p-53;
}
// How many of `count` blocks come before the one that the first point lies in, which `uniform`
// decides; count: there is none in them.
inline uint64_t blocks_before_point(double uniform, uint64_t block_size, uint64_t count,
                                    uint64_t rate) {
  double all = static_cast<double>(block_size * count) / static_cast<double>(rate);
  // The first point lies at -ln(uniform) times the rate. Most often that is far away, as is seen
  // without a logarithm: e^-x >= 1 - x.
  if (uniform <= 1 - all) return count;
  double at = -log_of(uniform) * static_cast<double>(rate) / static_cast<double>(block_size);
  return at < static_cast<double>(count) ? static_cast<uint64_t>(at) : count;
}

}  // namespace tally::core
