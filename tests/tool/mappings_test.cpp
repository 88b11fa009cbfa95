#include "mappings.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace tally::tool {
namespace {

// A mapping as /proc/PID/smaps has it, of which so many KiB are resident.
std::string mapping(const std::string& head, unsigned rss, unsigned anonymous) {
  return head + "\nSize: 4 kB\nRss: " + std::to_string(rss) +
         " kB\nAnonymous: " + std::to_string(anonymous) + " kB\nVmFlags: rd wr\n";
}

std::optional<uint64_t> unknown(uint64_t /*start*/, uint64_t /*end*/) { return std::nullopt; }

// The kernel has joined 64 KiB of ours with 192 KiB of somebody's.
TEST(Mappings, OfJoinedOnesThePagesThatArePresentTell) {
  const std::string smaps =
      "7f0000000000-7f0000040000 rw-p 00000000 00:00 0 \nRss: 200 kB\nAnonymous: 200 kB\n";
  const std::vector<record::Range> heap = {{0x7f0000000000, 0x7f0000010000}};
  auto present = [](uint64_t start, uint64_t end) -> std::optional<uint64_t> {
    EXPECT_EQ(start, 0x7f0000000000u);
    EXPECT_EQ(end, 0x7f0000010000u);
    return 12 * 1024;
  };
  const Resident known = read_smaps(smaps, heap, present);
  EXPECT_EQ(known.heap, 12u * 1024);
  EXPECT_EQ(known.others, 188u * 1024);
  const Resident guessed = read_smaps(smaps, heap, unknown);
  EXPECT_EQ(guessed.heap, 64u * 1024);
  EXPECT_EQ(guessed.others, 136u * 1024);
}

TEST(Mappings, AreSortedByWhatTheyAre) {
  const std::string smaps =
      mapping("00400000-00500000 r-xp 00000000 fe:00 1      /usr/bin/a b", 100, 0) +
      mapping("00500000-00502000 rw-p 00100000 fe:00 1      /usr/bin/a b", 8, 4) +
      mapping("00502000-00504000 rw-p 00000000 00:00 0 ", 7, 7) +  // its data without a file
      mapping("01000000-01100000 rw-p 00000000 00:00 0      [heap]", 64, 64) +
      mapping("10000000-10400000 rw-p 00000000 00:00 0 ", 2000, 2000) +  // the heap's
      mapping("20000000-20001000 ---p 00000000 00:00 0 ", 0, 0) +
      mapping("20001000-20801000 rw-p 00000000 00:00 0 ", 12, 12) +  // a thread's stack
      mapping("30000000-30010000 r--p 00000000 fe:00 2      /usr/lib/locale/C.utf8", 32, 0) +
      mapping("40000000-40010000 rw-s 00000000 00:01 3      /dev/shm/x", 5, 0) +
      mapping("50000000-50010000 rw-s 00000000 00:01 3      /memfd:y (deleted)", 6, 0) +
      mapping("60000000-60010000 rw-p 00000000 00:00 0 ", 3, 3) +
      // Joined by the kernel: half of it is the heap's.
      mapping("70000000-70200000 rw-p 00000000 00:00 0 ", 1500, 1500) +
      mapping("7f000000-7f010000 rw-p 00000000 00:00 0      [stack]", 20, 20);
  const record::Range heap[] = {{0x10000000, 0x10400000}, {0x70000000, 0x70100000}};
  const Resident resident = read_smaps(smaps, heap, unknown);
  EXPECT_EQ(resident.code, 104u << 10);
  EXPECT_EQ(resident.data, 11u << 10);
  EXPECT_EQ(resident.brk, 64u << 10);
  EXPECT_EQ(resident.heap, (2000u + 1024) << 10);
  EXPECT_EQ(resident.stacks, 32u << 10);
  EXPECT_EQ(resident.files, 32u << 10);
  EXPECT_EQ(resident.shared, 11u << 10);
  EXPECT_EQ(resident.others, (3u + 476) << 10);
  EXPECT_EQ(resident.total, resident.code + resident.data + resident.brk + resident.heap +
                                resident.stacks + resident.files + resident.shared +
                                resident.others);
}

TEST(Mappings, OfThisProcess) {
  constexpr size_t kBytes = 16 << 20;
  void* p = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  ASSERT_NE(p, MAP_FAILED);
  auto start = reinterpret_cast<uint64_t>(p);
  const record::Range heap[] = {{start, start + kBytes}};
  auto resident = resident_of(getpid(), heap);
  ASSERT_TRUE(resident);
  EXPECT_EQ(resident->heap, kBytes);
  EXPECT_GT(resident->code, 100u << 10);
  EXPECT_GT(resident->stacks, 0u);
  munmap(p, kBytes);
}

TEST(Mappings, OfNobody) {
  EXPECT_FALSE(resident_of(4194305, {}));
  EXPECT_EQ(read_smaps("nonsense\nRss: 5 kB\n", {}, unknown).total, 0u);
}

}  // namespace
}  // namespace tally::tool
