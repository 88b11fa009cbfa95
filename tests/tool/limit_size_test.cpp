#include "limit_size.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <stdexcept>

namespace tally::tool {
namespace {

constexpr uint64_t kMemory = 1000;
constexpr char kSize[] = "a size of at most 64T, such as 1.5G, a share, 0% to 100%, or none";

LimitSettings read(const std::string& text) {
  return read_limit(text, [] { return kMemory; });
}

std::string expected(const std::string& text) {
  try {
    read(text);
    return "nothing else";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(LimitSize, IsReadAsTheLibraryDoes) {
  EXPECT_EQ(read("0").hard, 0u);
  EXPECT_EQ(read("4096").hard, 4096u);
  EXPECT_EQ(read("7b").hard, 7u);
  EXPECT_EQ(read("3k").hard, 3u << 10);
  EXPECT_EQ(read("64M").hard, 64u << 20);
  EXPECT_EQ(read("64MiB").hard, 64u << 20);
  EXPECT_EQ(read("2gb").hard, uint64_t{2} << 30);
  EXPECT_EQ(read("1.5G").hard, uint64_t{3} << 29);
  EXPECT_EQ(read("64T").hard, uint64_t{64} << 40);
  EXPECT_EQ(read("90%").hard, 900u);
  EXPECT_EQ(read("none").hard, TALLY_LIMIT_NONE);
  EXPECT_EQ(read("1G").soft, TALLY_LIMIT_NONE);
  EXPECT_EQ(read("1G:soft=512M").soft, 512u << 20);
  EXPECT_EQ(read("none:soft=50%").soft, 500u);
}

TEST(LimitSize, HasAPolicy) {
  EXPECT_EQ(read("1G").policy, TALLY_POLICY_FAIL);
  EXPECT_EQ(read("1G:abort").policy, TALLY_POLICY_ABORT);
  EXPECT_EQ(read("1G:abort:fail").policy, TALLY_POLICY_FAIL);
  EXPECT_EQ(read("1G:soft=1M:wait=250").policy, TALLY_POLICY_WAIT(250));
}

TEST(LimitSize, SaysWhatWasExpected) {
  for (const char* text : {"", "x", "-1", "1X", "1.G", "1.5", "1.1234567G", "65T", "101%", "%",
                           "99999999999999999999999", "kib", ":soft=1M", "None"}) {
    EXPECT_EQ(expected(text), kSize) << text;
  }
  EXPECT_EQ(expected("1G:soft="),
            "after soft= a size of at most 64T, such as 1.5G, a share, or none");
  EXPECT_EQ(expected("1G:wait=16777216"), "after wait= milliseconds, 0 to 16777215");
  EXPECT_EQ(expected("1G:wait=-1"), "after wait= milliseconds, 0 to 16777215");
  EXPECT_EQ(expected("1G:die"), "after the limit :soft=SIZE, :wait=MS, :abort or :fail");
  EXPECT_EQ(expected("1G:soft=2G"), "a soft limit that is not above the hard one");
}

TEST(LimitSize, SharesAreOfWhatAProcessMayHave) {
  const uint64_t machine = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  EXPECT_GT(memory_of(getpid()), 0u);
  EXPECT_LE(memory_of(getpid()), machine);
}

TEST(LimitSize, PathsAreThoseOfTags) {
  EXPECT_EQ(tag_path("/"), "/");
  EXPECT_THROW(tag_path(""), std::invalid_argument);  // most likely a variable that is not set
  EXPECT_EQ(tag_path("cache/blocks"), "/cache/blocks");
  EXPECT_EQ(tag_path("/" + std::string(254, 'x')).size(), 255u);
  EXPECT_THROW(tag_path(std::string(255, 'x')), std::invalid_argument);
  for (const char* text : {"a//b", "//", "a/", "/\x01", "tally", "/tally", "/tally/x"}) {
    EXPECT_THROW(tag_path(text), std::invalid_argument) << text;
  }
}

}  // namespace
}  // namespace tally::tool
