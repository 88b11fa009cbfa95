#include "os/vdso.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include "os/os.h"

namespace {

using namespace tally::core;

uint64_t coarse_ms() {
  timespec now;
  EXPECT_EQ(clock_gettime(CLOCK_MONOTONIC_COARSE, &now), 0);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

// Whatever the kernel's linker made of it: who does not find the function would go on by system
// calls, and nobody would notice.
TEST(Vdso, IsFoundWhereTheKernelHasOne) {
  EXPECT_EQ(os::clock_reader() != nullptr, getauxval(AT_SYSINFO_EHDR) != 0);
  EXPECT_EQ(os::clock_reader(), os::clock_reader());
}

TEST(Vdso, TellsWhatLibcTells) {
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = coarse_ms(), now = os::now_ms(), after = coarse_ms();
    EXPECT_LE(before, now);
    EXPECT_LE(now, after);
  }
}

TEST(Vdso, SaysWhatIsNoClock) {
  if (os::clock_reader() == nullptr) GTEST_SKIP() << "the kernel has no vDSO";
  timespec now;
  errno = 7777;
  EXPECT_EQ(os::clock_reader()(12345, &now), -EINVAL);
  EXPECT_EQ(errno, 7777);
}

}  // namespace
