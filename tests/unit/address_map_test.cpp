#include "memory/address_map.h"

#include "fake_os.h"
#include "memory/chunk.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// A map of the test's own: any address may be set in it, as nothing is read there.
class AddressMapTest : public testing::Test {
 protected:
  static const void* at(uintptr_t address) { return reinterpret_cast<const void*>(address); }
  static bool prepare(uintptr_t address, size_t bytes) {
    LockGuard guard(central);
    return map().prepare(at(address), bytes);
  }
  static void set(uintptr_t address, const Slab* slab) {
    LockGuard guard(central);
    map().set(at(address), slab);
  }
  static AddressMap& map() {
    static constinit AddressMap map;
    return map;
  }

  Slab slabs_[4] = {};
};

TEST_F(AddressMapTest, UnknownAddressesAreNobodys) {
  for (uintptr_t address : {uintptr_t{0}, uintptr_t{1}, uintptr_t{0x7fffffffffff}, UINTPTR_MAX,
                            uintptr_t{1} << 47, uintptr_t{1} << 63}) {
    EXPECT_EQ(map().find(at(address)), map().none());
  }
  EXPECT_EQ(map().none()->what().kind, SlabKind::kFree);
  EXPECT_EQ(map().none()->owner.load(), nullptr);
}

TEST_F(AddressMapTest, ASlotResolvesFromItsFirstByteToItsLast) {
  uintptr_t slot = uintptr_t{0x123456} << kSlotShift;
  ASSERT_TRUE(prepare(slot, kSlotBytes));
  EXPECT_EQ(map().find(at(slot)), map().none()) << "prepared is not set";
  set(slot, &slabs_[0]);
  EXPECT_EQ(map().find(at(slot)), &slabs_[0]);
  EXPECT_EQ(map().find(at(slot + kSlotBytes - 1)), &slabs_[0]);
  EXPECT_EQ(map().find(at(slot - 1)), map().none());
  EXPECT_EQ(map().find(at(slot + kSlotBytes)), map().none());
  set(slot + 12345, nullptr);
  EXPECT_EQ(map().find(at(slot)), map().none());
}

TEST_F(AddressMapTest, RangesMayCrossLeaves) {
  uintptr_t border = uintptr_t{7} << 32;
  ASSERT_TRUE(prepare(border - kSlotBytes, 2 * kSlotBytes));
  set(border - 1, &slabs_[0]);
  set(border, &slabs_[1]);
  EXPECT_EQ(map().find(at(border - 1)), &slabs_[0]);
  EXPECT_EQ(map().find(at(border)), &slabs_[1]);
}

TEST_F(AddressMapTest, TheEndsOfTheAddressSpace) {
  uintptr_t last = (uintptr_t{1} << 48) - kSlotBytes;
  ASSERT_TRUE(prepare(last, kSlotBytes));
  ASSERT_TRUE(prepare(0, kSlotBytes));
  set(last, &slabs_[0]);
  set(0, &slabs_[1]);
  EXPECT_EQ(map().find(at(last)), &slabs_[0]);
  EXPECT_EQ(map().find(at(0)), &slabs_[1]);
  EXPECT_EQ(map().find(at(last | uintptr_t{0xffff} << 48)), &slabs_[0])
      << "the top bits are cut off";
  set(0, nullptr);
}

TEST_F(AddressMapTest, WithoutMemoryNothingIsPreparedAndAReserveHelps) {
  uintptr_t slot = uintptr_t{11} << 32, other = uintptr_t{12} << 32, third = uintptr_t{13} << 32;
  {
    LockGuard guard(central);
    ASSERT_TRUE(map().reserve());
    ASSERT_TRUE(map().reserve()) << "one in hand is enough";
  }
  fake_os::Failing no_maps(fake_os::kMap);
  EXPECT_TRUE(prepare(slot, 1)) << "by the reserve";
  EXPECT_FALSE(prepare(other, 1));
  EXPECT_FALSE(prepare(slot, (uintptr_t{1} << 32) + 1));
  EXPECT_TRUE(prepare(slot, 1)) << "once more costs nothing";
  set(slot, &slabs_[0]);
  EXPECT_EQ(map().find(at(slot)), &slabs_[0]);
  EXPECT_EQ(map().find(at(other)), map().none());
  fake_os::fail_none();
  EXPECT_TRUE(prepare(third, 1));
}

TEST_F(AddressMapTest, ReadersNeedNoLock) {
  uintptr_t base = uintptr_t{21} << 32;
  std::atomic<bool> stop{false};
  // That a leaf reads as zero reaches the reader by the address it follows, which is an order of
  // the processor's, and none that ThreadSanitizer knows.
  for (uintptr_t i = 0; kThreadSanitizer && i < 64; ++i) ASSERT_TRUE(prepare(base + (i << 32), 1));
  std::thread reader([&] {
    while (!stop.load()) {
      for (uintptr_t i = 0; i < 64; ++i) {
        const Slab* slab = map().find(at(base + (i << 32)));
        ASSERT_TRUE(slab == map().none() || slab == &slabs_[i % 4]);
      }
    }
  });
  for (int turn = 0; turn < 20; ++turn) {
    for (uintptr_t i = 0; i < 64; ++i) {
      ASSERT_TRUE(prepare(base + (i << 32), 1));
      set(base + (i << 32), turn % 2 == 0 ? &slabs_[i % 4] : nullptr);
    }
  }
  stop.store(true);
  reader.join();
}

}  // namespace
}  // namespace tally::unit
