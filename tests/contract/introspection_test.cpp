// malloc_usable_size, malloc_trim, mallinfo, malloc_info, malloc_stats, mallopt.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

constexpr size_t kMiB = 1 << 20;

TEST(UsableSize, OfNullIsZero) { EXPECT_EQ(malloc_usable_size(nullptr), 0u); }

// _FORTIFY_SOURCE=3 asks once and checks later writes against the answer.
TEST(UsableSize, CoversTheRequestAndIsTheSameForTheBlocksLife) {
  const auto sizes = sizes_to(8 * kMiB);
  std::vector<void*> blocks;
  std::vector<size_t> usable;
  for (size_t size : sizes) {
    void* p = malloc(size);
    ASSERT_NE(p, nullptr);
    blocks.push_back(p);
    usable.push_back(malloc_usable_size(p));
    ASSERT_GE(usable.back(), size);
    ASSERT_EQ(tally_usable_size(p), usable.back());
  }
  for (size_t i = 0; i < sizes.size(); i += 2) {
    free(blocks[i]);
    blocks[i] = nullptr;
  }
  malloc_trim(0);
  for (size_t i = 1; i < sizes.size(); i += 2) {
    ASSERT_EQ(malloc_usable_size(blocks[i]), usable[i]) << sizes[i];
    free(blocks[i]);
  }
}

TEST(UsableSize, EveryUsableByteIsTheBlocksOwn) {
  struct Block {
    unsigned char* p;
    size_t usable;
  };
  std::vector<Block> blocks;
  for (int round = 0; round < 3; round++) {
    for (size_t size : sizes_to(200000)) {
      auto* p = static_cast<unsigned char*>(malloc(size));
      ASSERT_NE(p, nullptr);
      blocks.push_back({p, malloc_usable_size(p)});
      memset(p, static_cast<int>(blocks.size()), blocks.back().usable);
    }
  }
  for (size_t i = 0; i < blocks.size(); i++) {
    const auto mine = static_cast<unsigned char>(i + 1);
    size_t wrong = 0;
    for (size_t k = 0; k < blocks[i].usable; k++) wrong += blocks[i].p[k] != mine;
    ASSERT_EQ(wrong, 0u) << blocks[i].usable;
    free(blocks[i].p);
  }
}

TEST(UsableSize, WasteIsBounded) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size = 129; size < 4 * kMiB; size += size / 7) {
    void* p = malloc(size);
    EXPECT_LE(malloc_usable_size(p), size + size / 4 + page) << size;
    free(p);
  }
}

TEST(Trim, ReturnsOneWhenMemoryWentBackAndNothingIsLost) {
  malloc_trim(0);
  const size_t before = rss_bytes();
  void* kept = malloc(1000);
  fill(kept, 1000, 1);
  std::vector<void*> blocks(50000);
  for (void*& p : blocks) {
    p = malloc(1000);
    memset(p, 1, 1000);
  }
  EXPECT_GT(rss_bytes(), before + 40 * kMiB);
  for (void* p : blocks) free(p);
  blocks = {};
  errno = 7777;
  const int went_back = malloc_trim(0);
  EXPECT_EQ(errno, 7777);
  EXPECT_TRUE(went_back == 0 || went_back == 1);
  EXPECT_LT(rss_bytes(), before + 5 * kMiB);
  EXPECT_TRUE(is_filled(kept, 1000, 1));
  free(kept);
  malloc_trim(0);
  EXPECT_EQ(malloc_trim(0), 0) << "nothing is left to give back";
}

TEST(Mallinfo, FollowsWhatIsLive) {
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = in_use();
  void* large = malloc(20 * kMiB);
  void* small[1000];
  for (void*& p : small) p = malloc(1000);
  const size_t during = in_use();
  EXPECT_GE(during, before + 20 * kMiB + 1000000);
  EXPECT_LE(during, before + 2 * (20 * kMiB + 1000000) + kMiB);
  for (void* p : small) free(p);
  free(large);
  EXPECT_LT(in_use(), before + 20 * kMiB);
}

TEST(Mallinfo, TheOldFormFitsItsInts) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo info = mallinfo();
#pragma GCC diagnostic pop
  EXPECT_GE(info.arena, 0);
  EXPECT_GE(info.uordblks, 0);
  EXPECT_GE(info.hblkhd, 0);
  EXPECT_GE(info.fordblks, 0);
}

std::string content_of(FILE* file) {
  std::string text;
  std::rewind(file);
  char buffer[4096];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, n);
  return text;
}

TEST(MallocInfo, WritesXml) {
  FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(malloc_info(0, file), 0);
  const std::string xml = content_of(file);
  std::fclose(file);
  EXPECT_EQ(xml.rfind("<malloc", 0), 0u) << xml;
  EXPECT_NE(xml.find("version="), std::string::npos) << xml;
  EXPECT_NE(xml.find("</malloc>"), std::string::npos) << xml;
}

TEST(MallocInfo, RefusesOptions) {
  FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(malloc_info(1, file), EINVAL);
  EXPECT_EQ(content_of(file), "");
  std::fclose(file);
}

TEST(MallocStats, WritesToStandardError) {
  FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  const int saved = dup(2);
  dup2(fileno(file), 2);
  malloc_stats();
  dup2(saved, 2);
  close(saved);
  const std::string said = content_of(file);
  for (const char* words :
       {"\nsystem bytes     = ", "\nin use bytes     = ", "\nmax mmap bytes   = "}) {
    EXPECT_NE(said.find(words), std::string::npos) << words << " is not in " << said;
  }
  std::fclose(file);
}

TEST(Mallopt, AcceptsWhatGlibcAccepts) {
  for (int option : {M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX}) {
    EXPECT_EQ(mallopt(option, 65536), 1) << option;
  }
}

}  // namespace
