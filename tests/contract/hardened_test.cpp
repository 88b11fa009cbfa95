// What libtally-hardened.so does to programs that do nothing wrong: none of it shows.
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

constexpr size_t kKiB = 1024, kMiB = 1024 * kKiB;
const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// Blocks of a page each, and what the heap adds.
std::vector<char*> pages(size_t count) {
  std::vector<char*> blocks(count);
  for (char*& block : blocks) {
    block = static_cast<char*>(malloc(kPage - 8));
    memset(block, 1, kPage - 8);
  }
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

size_t resident_bytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  size_t all = 0, resident = 0;
  EXPECT_EQ(fscanf(file, "%zu %zu", &all, &resident), 2);
  fclose(file);
  return resident * kPage;
}

size_t mappings() {
  FILE* file = fopen("/proc/self/maps", "r");
  size_t count = 0;
  for (int c; (c = getc(file)) != EOF;) count += c == '\n';
  fclose(file);
  return count;
}

TEST(Hardened, APageThatGoesBackBesideABlockIsNoDamage) {
  std::vector<char*> blocks = pages(64);
  int seen = 0;
  for (size_t i = 0; i + 1 < blocks.size(); i += 2) {
    char* before = blocks[i];
    char* block = blocks[i + 1];
    if (before + kPage != block || reinterpret_cast<uintptr_t>(block) % kPage != 0) continue;
    free(before);
    // As it reads when the owner has given it back in a system call, and is not back from that. No
    // more of the page than `free` of the other may look at.
    uint64_t seal;
    memcpy(&seal, block - sizeof seal, sizeof seal);
    memset(block - sizeof seal, 0, sizeof seal);
    free(block);
    memcpy(block - sizeof seal, &seal, sizeof seal);
    ++seen;
  }
  EXPECT_GT(seen, 8);
}

// Of blocks that are new few lie behind the one before, and which is not the same twice.
TEST(Hardened, BlocksComeInAnOrderOfChance) {
  constexpr ptrdiff_t kSize = 1024;
  auto neighbours_of = [](const char* name) {
    const tally_tag tag = tally_tag_create(name);
    std::vector<char*> blocks(256);
    for (char*& block : blocks) block = static_cast<char*>(tally_malloc(tag, kSize - 8));
    std::vector<size_t> neighbours;
    for (size_t i = 1; i < blocks.size(); ++i) {
      if (blocks[i] - blocks[i - 1] == kSize) neighbours.push_back(i);
    }
    for (char* block : blocks) free(block);
    return neighbours;
  };
  const std::vector<size_t> first = neighbours_of("/order/a"), second = neighbours_of("/order/b");
  EXPECT_LT(first.size(), 128U);
  EXPECT_GT(first.size(), 16U);
  EXPECT_NE(first, second);
}

// The heap's own, of which tags take some: regions of 256 KiB, whose first and last page are
// closed.
TEST(Hardened, MetadataLiesBetweenClosedPages) {
  constexpr int kTags = 3000;
  for (int i = 0; i < kTags; ++i) tally_tag_create(("/own/" + std::to_string(i)).c_str());
  struct Mapping {
    uintptr_t start, end;
    std::string rights;
  };
  std::vector<Mapping> mappings(1);
  std::ifstream file("/proc/self/maps");
  for (std::string line; std::getline(file, line);) {
    Mapping mapping;
    char dash;
    std::istringstream(line) >> std::hex >> mapping.start >> dash >> mapping.end >> mapping.rights;
    mappings.push_back(mapping);
  }
  int regions = 0;
  for (size_t i = 1; i + 1 < mappings.size(); ++i) {
    const Mapping &before = mappings[i - 1], &one = mappings[i], &behind = mappings[i + 1];
    regions += one.rights == "rw-p" && one.end - one.start == 256 * kKiB - 2 * kPage &&
               before.end == one.start && before.rights == "---p" && behind.start == one.end &&
               behind.rights == "---p";
  }
  EXPECT_GE(regions, kTags * 560 / static_cast<int>(256 * kKiB));
}

TEST(Hardened, WhatIsFreedIsNotUsedAgainAtOnce) {
  for (size_t size = 1; size < 64 * kKiB; size += size / 3 + 1) {
    // With so many beside it: slabs that are nearly full, and others.
    std::vector<void*> others;
    for (int i = 0; i < 500; ++i) {
      if (i % 7 == 0) others.push_back(malloc(size));
      void* block = malloc(size);
      const auto was = reinterpret_cast<uintptr_t>(block);
      free(block);
      block = malloc(size);
      EXPECT_NE(reinterpret_cast<uintptr_t>(block), was) << size << ", " << i;
      free(block);
    }
    for (void* other : others) free(other);
  }
}

// Nor when its slab became empty by that, and its blocks are linked anew.
TEST(Hardened, WhatEmptiesASlabIsNotUsedAgainAtOnce) {
  Random random(1);
  for (int trial = 0; trial < 300; ++trial) {
    char name[32];
    snprintf(name, sizeof name, "/empties/%d", trial);
    const tally_tag tag = tally_tag_create(name);
    std::vector<void*> blocks(random.below(700) + 20 + random.below(1500));
    for (void*& block : blocks) block = tally_malloc(tag, 480);
    void* const root = blocks[random.below(blocks.size())];
    const auto was = reinterpret_cast<uintptr_t>(root);
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random.below(i)]);
    for (void* block : blocks) {
      if (block != root) free(block);
    }
    free(root);
    for (void*& block : blocks) {
      block = tally_malloc(tag, 480);
      if (&block < &blocks[8]) {
        EXPECT_NE(reinterpret_cast<uintptr_t>(block), was) << trial;
      }
    }
    for (void* block : blocks) free(block);
    ASSERT_EQ(tally_tag_retire(tag), 0);
  }
}

// In whatever order they were freed, if all of them were.
TEST(Hardened, BlocksOfAnEmptySlabLieTogetherAgain) {
  constexpr size_t kSize = 50;
  std::vector<char*> blocks(6007);
  int near = 0;
  for (int round = 0; round < 3; ++round) {
    for (char*& block : blocks) block = static_cast<char*>(malloc(kSize));
    near = 0;
    for (size_t i = 1; i < blocks.size(); ++i) near += abs(blocks[i] - blocks[i - 1]) < 512;
    for (size_t i = 0; i < blocks.size(); ++i) free(blocks[i * 1000 % blocks.size()]);
  }
  EXPECT_GT(near, 3000) << "some are left in hand";
}

TEST(Hardened, TheMappingsThatAreLeftAreTheProgramsOwn) {
  // A few GiB of addresses, of which nothing is touched.
  std::vector<void*> blocks(60000);
  for (void*& block : blocks) {
    block = malloc(70000);
    ASSERT_NE(block, nullptr);
  }
  EXPECT_LT(mappings(), 33000U);
  for (size_t i = 0; i < blocks.size(); i += 2) free(blocks[i]);
  EXPECT_LT(mappings(), 33000U);
  for (size_t i = 0; i < blocks.size(); i += 2) blocks[i] = malloc(3000000);
  EXPECT_LT(mappings(), 33000U);
  for (void* block : blocks) free(block);
  EXPECT_LT(mappings(), 33000U);
}

TEST(Hardened, WhatWaitsAfterItsFreeIsThereForWantOfMemory) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  FILE* file = fopen("/proc/self/statm", "r");
  size_t all = 0;
  ASSERT_EQ(fscanf(file, "%zu", &all), 1);
  fclose(file);
  const rlimit limit = {all * kPage + 100 * kMiB, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  char* last[4] = {};
  bool refused = false;
  for (int i = 0; i < 200 && !refused; ++i) {
    free(last[i % 4]);
    last[i % 4] = static_cast<char*>(malloc(15 * kMiB));
    refused = last[i % 4] == nullptr;
  }
  for (char* block : last) free(block);
  // Not one of the sizes that wait, and it needs what they have.
  void* long_one = malloc(80 * kMiB);
  refused |= long_one == nullptr;
  free(long_one);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_FALSE(refused);
}

TEST(Hardened, WhatTheSystemRefusesToTakeIsUsedAgain) {
  std::vector<char*> blocks = pages(4096);
  size_t locked = 0;
  for (size_t i = 8; i < blocks.size(); i += 64) locked += mlock(blocks[i], kPage) == 0;
  if (locked == 0) GTEST_SKIP() << "no page may be locked here";
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 64 != 16) free(blocks[i]);
  }
  malloc_trim(0);
  std::vector<char*> others = pages(4096);
  for (size_t i = 16; i < blocks.size(); i += 64) free(blocks[i]);
  for (char* block : others) free(block);
  munlockall();
}

TEST(Hardened, TrimGivesBackThePagesBetweenBlocksThatStay) {
  constexpr size_t kCount = 16384, kKept = 16;
  std::vector<char*> blocks = pages(kCount);
  const size_t peak = resident_bytes();
  for (size_t i = 0; i < kCount; ++i) {
    if (i % kKept != 0) free(blocks[i]);
  }
  malloc_trim(0);
  EXPECT_LT(resident_bytes(), peak - kCount * kPage / 2);
  for (size_t i = 0; i < kCount; i += kKept) {
    EXPECT_EQ(blocks[i][kPage - 9], 1);
    free(blocks[i]);
  }
  for (char* block : pages(kCount)) free(block);
}

// Others were where they come to lie, and the pages of those stay. With TALLY_ZERO=1 all of it is
// zero.
TEST(Hardened, LargeBlocksReadAsZero) {
  const size_t most = getenv("TALLY_ZERO") != nullptr ? SIZE_MAX : 8 * kKiB;
  uint64_t chance = 1;
  std::vector<std::pair<char*, size_t>> blocks(24);
  for (int i = 0; i < 4000; ++i) {
    chance = chance * 0xd1342543de82ef95 + 1;
    auto& [block, size] = blocks[(chance >> 32) % blocks.size()];
    if (block != nullptr && size < kMiB && (chance >> 40) % 3 == 0) {
      const size_t more = size + size / 2;
      block = static_cast<char*>(realloc(block, more));
      ASSERT_NE(block, nullptr);
      ASSERT_TRUE(most < size || is_zero(block + size, block + more))
          << size << " to " << more << ", " << i;
      memset(block + size, 0x5a, more - size);
      size = more;
    } else if ((chance >> 40) % 3 == 1) {
      std::thread([] {
        std::vector<void*> small(200);
        for (void*& one : small) memset(one = malloc(9000), 0x5a, 9000);
        for (void* one : small) free(one);
      }).join();
    } else {
      free(block);
      size = (66 << (chance >> 44) % 5) * kKiB + (chance >> 50);
      block = static_cast<char*>(malloc(size));
      ASSERT_NE(block, nullptr);
      ASSERT_TRUE(is_zero(block, block + std::min(size, most))) << size << ", " << i;
      memset(block, 0x5a, size);
    }
  }
  for (auto& [block, size] : blocks) free(block);
}

// Of a tag that is retired the slabs go, and another has them next.
TEST(Hardened, TheNextSlabFindsThePagesOfTheLast) {
  constexpr int kTags = 50;
  constexpr size_t kBlocks = 1000, kSize = 1000;
  std::vector<void*> blocks(kBlocks);
  auto work = [&blocks](int i) {
    char name[32];
    snprintf(name, sizeof name, "/next/%d", i);
    const tally_tag tag = tally_tag_create(name);
    for (void*& block : blocks) memset(block = tally_malloc(tag, kSize), 1, kSize);
    for (void* block : blocks) free(block);
    ASSERT_EQ(tally_tag_retire(tag), 0);
  };
  work(0);
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 1; i <= kTags; ++i) work(i);
  getrusage(RUSAGE_SELF, &after);
  constexpr long kPages = kTags * static_cast<long>(kBlocks * kSize / 4096);
  EXPECT_LT(after.ru_minflt - before.ru_minflt, kPages / 2);
}

// So do large blocks.
TEST(Hardened, TheNextLargeBlockFindsThePagesOfTheLast) {
  constexpr int kRounds = 300;
  rusage before, after;
  for (size_t size : {80 * kKiB, 200 * kKiB, 450 * kKiB, 3 * kMiB}) {
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < kRounds; ++i) {
      auto* block = static_cast<char*>(malloc(size));
      memset(block, 1, size);
      free(block);
    }
    getrusage(RUSAGE_SELF, &after);
    const long pages = kRounds * static_cast<long>(size / 4096);
    EXPECT_LT(after.ru_minflt - before.ru_minflt, pages / 3) << size;
  }
}

// What waits with its pages is four blocks, up to 16 MiB, or an eighth of what the process holds,
// from 1 MiB to 16.
TEST(Hardened, LargeBlocksThatWaitTakeLittle) {
  auto grown_by = [](size_t size, size_t held) {
    constexpr int kRounds = 200;
    void* holds = malloc(held);
    malloc_trim(0);
    const auto before = static_cast<int64_t>(resident_bytes());
    int64_t most = 0;
    for (int i = 0; i < kRounds; ++i) {
      auto* block = static_cast<char*>(malloc(size));
      memset(block, 1, size);
      free(block);
      most = std::max(most, static_cast<int64_t>(resident_bytes()) - before);
    }
    free(holds);
    return static_cast<double>(most) / kMiB;
  };
  // Besides, the one that is live, and room between those that wait.
  EXPECT_LT(grown_by(150 * kKiB, 1 * kMiB), 3);
  EXPECT_LT(grown_by(2 * kMiB, 1 * kMiB), 14);
  EXPECT_LT(grown_by(6 * kMiB, 1 * kMiB), 26);
  EXPECT_GT(grown_by(300 * kKiB, 64 * kMiB), 5);
  EXPECT_GT(grown_by(900 * kKiB, 400 * kMiB), 14);
  EXPECT_LT(grown_by(900 * kKiB, 400 * kMiB), 22);
}

// And one that grows in place, by page and page.
TEST(Hardened, WhatGrowsFindsThePagesOfTheLast) {
  long pages = 0;
  auto work = [&pages](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      size_t size = 100 * kKiB;
      auto* block = static_cast<char*>(malloc(size));
      memset(block, 1, size);
      while (size < 400 * kKiB) {
        const size_t longer = size + size / 8;
        block = static_cast<char*>(realloc(block, longer));
        memset(block + size, 1, longer - size);
        pages += static_cast<long>((longer - size) / 4096);
        size = longer;
      }
      free(block);
    }
  };
  work(150);  // until what waits has been where they are
  pages = 0;
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  work(150);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_minflt - before.ru_minflt, pages / 3);
}

// Each slab is a mapping of its own, as it ends at a closed page.
constexpr size_t kThousands = 6000, kThousandsSlabs = kThousands * 1000 / (64 * kKiB);
std::vector<char*> thousands() {
  std::vector<char*> blocks(kThousands);
  for (char*& block : blocks) block = static_cast<char*>(malloc(1000));
  return blocks;
}
void leave_slabs() {
  std::thread([] {
    for (char* block : thousands()) free(block);
  }).join();
}

TEST(Hardened, TheSlabsOfAThreadThatEndedStayUntilThePurge) {
  malloc_trim(0);
  const size_t at_first = mappings();
  leave_slabs();
  EXPECT_GT(mappings(), at_first + kThousandsSlabs);
  malloc_trim(0);
  EXPECT_LT(mappings(), at_first + kThousandsSlabs / 4);
}

TEST(Hardened, WhoeverNeedsThemTakesTheSlabsOfAThreadThatEnded) {
  leave_slabs();
  const size_t kept = mappings();
  std::vector<char*> blocks = thousands();
  EXPECT_LT(mappings(), kept + kThousandsSlabs / 2);
  for (char* block : blocks) free(block);
}

// One block of each, freed by a thread that has them in hand until the trim.
TEST(Hardened, ATrimFindsSlabsWhoseLastBlocksWereInAnothersHand) {
  constexpr size_t kSlabs = 100, kBlocks = kSlabs * 64 * kKiB / 16;
  std::vector<char*> blocks(kBlocks), last;
  malloc_trim(0);
  const size_t at_first = mappings();
  std::thread([&blocks] {
    for (char*& block : blocks) block = static_cast<char*>(malloc(8));
  }).join();
  uintptr_t slot = 0;
  for (char* block : blocks) {
    const uintptr_t own = reinterpret_cast<uintptr_t>(block) / (64 * kKiB);
    own == slot ? free(block) : last.push_back(block);
    slot = own;
  }
  malloc_trim(0);
  EXPECT_GT(mappings(), at_first + kSlabs);
  for (char* block : last) free(block);
  malloc_trim(0);
  EXPECT_LT(mappings(), at_first + kSlabs / 4);
}

// A few blocks of many sizes each, of threads that end: what stays of theirs is bounded by
// addresses.
TEST(Hardened, WhatEndedThreadsLeaveIsFewMappings) {
  constexpr int kTags = 400;
  for (int i = 0; i < kTags; ++i) {
    std::thread([i] {
      char name[32];
      snprintf(name, sizeof name, "/ended/%d", i);
      const tally_tag tag = tally_tag_create(name);
      void* blocks[24];
      size_t size = 16;
      for (void*& block : blocks) {
        block = tally_malloc(tag, size);
        size += size / 4 + 8;
      }
      for (void* block : blocks) free(block);
    }).join();
  }
  EXPECT_LT(mappings(), 3000U);
}

// Whatever was there before, at any size or of no bytes, while pages go back and are had again.
TEST(Hardened, LargeBlocksOfCallocAreZero) {
  uint64_t chance = 1;
  std::vector<char*> blocks(48);
  for (int i = 0; i < 6000; ++i) {
    chance = chance * 0xd1342543de82ef95 + 1;
    char*& block = blocks[(chance >> 32) % blocks.size()];
    free(block);
    size_t size = (66 + (chance >> 40) % 500) * kKiB;
    if (i % 4 == 0) {
      block = static_cast<char*>(calloc(1, size));
      ASSERT_TRUE(is_zero(block, block + size)) << size << ", " << i;
    } else if (i % 4 == 1) {
      block = static_cast<char*>(realloc(malloc(size), size + size / 3));
      size += size / 3;
    } else {
      if (i % 8 == 7) size = 0;
      block = static_cast<char*>(malloc(size));
    }
    memset(block, 0x5a, size);
    if (i % 500 == 0) usleep(15'000);
  }
  for (char* block : blocks) free(block);
}

// Behind them lies what is looked at: at any size, however they came to it.
TEST(Hardened, EachByteOfALargeBlockMayBeWritten) {
  auto work = [](uint64_t seed) {
    Random random(seed);
    std::vector<std::pair<char*, size_t>> blocks(16);
    for (int i = 0; i < 1500; ++i) {
      auto& [block, size] = blocks[random.below(blocks.size())];
      const size_t was = size;
      const uint64_t how = random.below(5);
      size = 66 * kKiB + random.below(how == 0 ? 2 * kMiB : 300 * kKiB);
      if (how < 3) {
        block = static_cast<char*>(realloc(block, size));
        for (size_t at = 0; at < std::min(was, size); ++at) ASSERT_EQ(block[at], 0x5a) << i;
      } else {
        free(block);
        block = static_cast<char*>(how == 3 ? calloc(1, size) : memalign(kPage << i % 6, size));
        ASSERT_TRUE(how != 3 || is_zero(block, block + size)) << size << ", " << i;
      }
      ASSERT_EQ(malloc_usable_size(block), size);
      memset(block, 0x5a, size);
    }
    for (auto& [block, size] : blocks) free(block);
  };
  std::vector<std::thread> threads;
  for (uint64_t seed = 2; seed < 4; ++seed) threads.emplace_back(work, seed);
  work(1);
  for (std::thread& thread : threads) thread.join();

  std::vector<char*> blocks(8);
  for (char*& block : blocks) block = static_cast<char*>(malloc(100'000));
  const pid_t child = fork();
  if (child != 0) {
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  for (size_t i = 0; i < blocks.size(); ++i)
    free(i % 2 != 0 ? blocks[i] : realloc(blocks[i], 100'001));
  if (child == 0) _exit(0);
}

// By lengths that the kernel rounds up.
TEST(Hardened, PagesThatTheProgramGaveBackAreNoDamage) {
  for (int i = 0; i < 20; ++i) {
    const size_t size = 100'000 + 100 * static_cast<size_t>(i);
    auto* block = static_cast<char*>(memalign(kPage, size));
    memset(block, 1, size);
    ASSERT_EQ(madvise(block, size, MADV_DONTNEED), 0);
    memset(block, 1, i % 2 == 0 ? 0 : size);
    free(i % 4 < 2 ? block : realloc(block, size + 1));
  }
  // Where next to nothing of the last page is not its own, or becomes so.
  for (size_t size : {102'396, 100'000}) {
    auto* block = static_cast<char*>(memalign(kPage, size));
    memset(block, 1, size);
    ASSERT_EQ(madvise(block, size, MADV_DONTNEED), 0);
    free(size == 100'000 ? realloc(block, 102'392) : block);
  }
}

// Free looks at the last page, if it can.
TEST(Hardened, BlocksWhosePagesCannotBeTouchedAreFreed) {
  constexpr size_t kSize = 1'000'001;
  const auto a_block = [] { return memset(memalign(kPage, kSize), 1, kSize); };
  void* block = a_block();
  ASSERT_EQ(madvise(block, kSize, MADV_DONTFORK), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    free(block);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(madvise(block, kSize, MADV_DOFORK), 0);
  free(block);
  block = a_block();
  ASSERT_EQ(mprotect(block, kSize, PROT_READ), 0);
  free(block);
}

// What was there before is no part of a block that is there now, nor, but for little, of memory.
void expect_nothing_behind(size_t count, size_t size) {
  std::vector<char*> blocks(count);
  for (size_t each : {190 * kKiB, size}) {
    for (char*& block : blocks) {
      free(block);
      memset(block = static_cast<char*>(malloc(each)), 1, each);
    }
  }
  malloc_trim(0);
  EXPECT_LT(resident_bytes(), count * size + 12 * kMiB);
  for (char* block : blocks) free(block);
}

TEST(Hardened, NothingStaysBehindALargeBlock) { expect_nothing_behind(300, 128 * kKiB); }

// Not even little, with TALLY_LIMIT, which is to hold for what is resident, and with blocks that
// grow and shrink. Under either library.
TEST(Limit, HoldsForWhatLiesBehindLargeBlocks) {
  expect_nothing_behind(600, 100 * kKiB);
  for (size_t size : {66 * kKiB, 190 * kKiB}) {
    constexpr size_t kCount = 400, kSize = 130 * kKiB;
    expect_nothing_behind(kCount, 250 * kKiB);
    std::vector<void*> blocks(kCount);
    for (void*& block : blocks) {
      memset(block = malloc(size), 1, size);
      memset(block = realloc(block, kSize), 1, kSize);
    }
    malloc_trim(0);
    EXPECT_LT(resident_bytes(), kCount * kSize + 12 * kMiB) << size;
    for (void* block : blocks) free(block);
  }
}

void expect_to_go(size_t count, size_t size) {
  void* much = malloc(200 * kMiB);  // so that most of the blocks may wait
  std::vector<void*> blocks(count);
  for (void*& block : blocks) memset(block = malloc(size), 1, size);
  const size_t peak = resident_bytes();
  for (void* block : blocks) free(block);
  bool gone = false;
  for (int i = 0; i < 300 && !gone; ++i) {
    usleep(100'000);
    free(malloc(100 * kKiB));  // who looks at the clock
    gone = resident_bytes() < peak - 8 * kMiB;
  }
  EXPECT_TRUE(gone);
  free(much);
}

TEST(Hardened, WhereSlabsWereGoesBackToTheSystemInTime) { expect_to_go(10000, 1000); }

TEST(Hardened, WhereLargeBlocksWereGoesBackToTheSystemInTime) { expect_to_go(24, 900 * kKiB); }

// Blocks that get shorter in place, beside threads that take what they leave.
TEST(Hardened, WhatShrinksClosesNothingThatIsAnothers) {
  constexpr size_t kLong = 900 * 1024, kShort = 70 * 1024;
  auto work = [] {
    for (int i = 0; i < 3000; ++i) {
      auto* block = static_cast<char*>(malloc(kLong));
      block[0] = 1;
      block = static_cast<char*>(realloc(block, kShort));
      auto* other = static_cast<char*>(malloc(kShort));
      for (size_t at = 0; at < kShort; at += kPage) other[at] = block[0];
      std::this_thread::yield();
      for (size_t at = 0; at < kShort; at += kPage) EXPECT_EQ(other[at], 1);
      free(other);
      free(block);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
