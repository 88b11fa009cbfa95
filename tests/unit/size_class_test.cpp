#include "memory/size_class.h"

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(SizeClass, EachSizeHasTheSmallestClassThatHoldsIt) {
  for (size_t n = 1; n <= kMediumMax; ++n) {
    unsigned c = class_of(n);
    ASSERT_LT(c, kClasses) << n;
    ASSERT_GE(class_size(c), n);
    if (c > 0) {
      ASSERT_LT(class_size(c - 1), n);
    }
  }
}

TEST(SizeClass, TheFastPathsTableAgrees) {
  for (size_t n = kLinearMax + 1; n <= kSmallMax; ++n) {
    ASSERT_EQ(kClassTable[(n - 1) / kTableStep], class_of(n) * kClassTableUnit) << n;
  }
}

TEST(SizeClass, RoundingWastesAtMostAFifth) {
  for (size_t n = kLinearMax + 1; n <= kMediumMax; ++n) {
    ASSERT_LE((class_size(class_of(n)) - n) * 5, class_size(class_of(n))) << n;
  }
}

TEST(SizeClass, SizesAreAlignedAndDistinct) {
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_EQ(class_size(c) % kMinAlignment, 0U);
    EXPECT_EQ(class_size(c) % class_alignment(c), 0U);
    EXPECT_EQ(class_size(c) / class_alignment(c) % 2, 1U) << "not the greatest alignment";
    if (c > 0) {
      EXPECT_GT(class_size(c), class_size(c - 1));
    }
    EXPECT_GE(slots_of_slab(c) * kSlotBytes / class_size(c), 8U);
  }
}

TEST(SizeClass, MultiplesAreTellTaleForEveryOffsetInASlab) {
  for (unsigned c = 0; c < kClasses; ++c) {
    for (uint32_t offset = 0; offset <= kMediumSlots * kSlotBytes; ++offset) {
      ASSERT_EQ(kMultiples[c].contain(offset), offset % class_size(c) == 0) << c << " " << offset;
    }
  }
}

TEST(SizeClass, MultiplesAreTellTaleUpToFourGiB) {
  Random random(1);
  for (unsigned c = 0; c < kClasses; ++c) {
    auto size = static_cast<uint32_t>(class_size(c));
    for (int i = 0; i < 20000; ++i) {
      auto any = static_cast<uint32_t>(random.next());
      uint32_t multiple = any / size * size;
      ASSERT_EQ(kMultiples[c].contain(any), any % size == 0);
      ASSERT_TRUE(kMultiples[c].contain(multiple));
      ASSERT_FALSE(kMultiples[c].contain(multiple + size / 2));
    }
    uint32_t last = UINT32_MAX / size * size;
    EXPECT_TRUE(kMultiples[c].contain(last));
    EXPECT_FALSE(kMultiples[c].contain(last + 1));
    EXPECT_FALSE(kMultiples[c].contain(UINT32_MAX));
  }
}

}  // namespace
}  // namespace tally::unit
