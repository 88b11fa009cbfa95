#include "base/math.h"

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(Math, RoundUp) {
  EXPECT_EQ(round_up(0, 4096), 0U);
  EXPECT_EQ(round_up(1, 4096), 4096U);
  EXPECT_EQ(round_up(4096, 4096), 4096U);
  EXPECT_EQ(round_up(4097, 4096), 8192U);
  EXPECT_EQ(round_up(SIZE_MAX, 4096), 0U) << "wraps, as its comment says";
}

TEST(Math, DivideUp) {
  EXPECT_EQ(divide_up(0, 7), 0U);
  EXPECT_EQ(divide_up(1, 7), 1U);
  EXPECT_EQ(divide_up(7, 7), 1U);
  EXPECT_EQ(divide_up(8, 7), 2U);
}

TEST(Math, PowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  for (unsigned i = 0; i < 64; ++i) EXPECT_TRUE(is_power_of_two(size_t{1} << i));
  EXPECT_FALSE(is_power_of_two(3));
  EXPECT_FALSE(is_power_of_two(SIZE_MAX));
}

TEST(Math, Extremes) {
  EXPECT_EQ(min_of(0, SIZE_MAX), 0U);
  EXPECT_EQ(max_of(0, SIZE_MAX), SIZE_MAX);
}

}  // namespace
}  // namespace tally::unit
