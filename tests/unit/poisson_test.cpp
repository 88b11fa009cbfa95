#include "sample/poisson.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tally::unit {
namespace {

using namespace core;

TEST(PoissonTest, LogarithmsAsLibms) {
  for (double u = 1; u > 1e-300; u *= .83) {
    EXPECT_NEAR(log_of(u), std::log(u), 1e-11 * (1 + std::abs(std::log(u)))) << u;
  }
}

TEST(PoissonTest, ChancesAsLibms) {
  for (double x = 1e-15; x < 100; x *= 1.3) {
    double expected = -std::expm1(-x);
    EXPECT_NEAR(one_less_exp(x), expected, 1e-13 * expected) << x;
  }
  EXPECT_DOUBLE_EQ(chance(512 * 1024, 512 * 1024), -std::expm1(-1.0));
  EXPECT_EQ(chance(uint64_t{1} << 40, 2), 1);
}

TEST(PoissonTest, UniformNumbersAreIt) {
  uint64_t state = 1;
  double sum = 0, squares = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    double u = next_uniform(&state);
    ASSERT_GT(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / kCount, .5, .004);
  EXPECT_NEAR(squares / kCount, 1 / 3., .004);
}

// Whatever the block's size in relation to the rate, and however the blocks are cut into lists: a
// block has a point with its chance.
TEST(PoissonTest, EachBlockHasItsChance) {
  constexpr uint64_t kRate = 10000;
  for (uint64_t size : {16, 1000, 10000, 70000}) {
    for (uint64_t list : {1, 3, 64}) {
      uint64_t state = size + list, points = 0, blocks = 0, left = 0;
      constexpr uint64_t kCount = 400000;
      while (blocks < kCount) {
        left = list;
        while (left != 0) {
          uint64_t before = blocks_before_point(next_uniform(&state), size, left, kRate);
          ASSERT_LE(before, left);
          blocks += before;
          left -= before;
          if (left == 0) break;
          ++points;
          ++blocks;
          --left;
        }
      }
      double p = chance(size, kRate);
      double sigma = std::sqrt(p * (1 - p) * static_cast<double>(blocks));
      EXPECT_NEAR(static_cast<double>(points), p * static_cast<double>(blocks), 5 * sigma + 1)
          << size << " in lists of " << list;
    }
  }
}

}  // namespace
}  // namespace tally::unit
