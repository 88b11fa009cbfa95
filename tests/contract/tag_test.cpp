// Tags: paths, scopes, and the C++ face.
#include <gtest/gtest.h>

#include <csetjmp>
#include <stdexcept>
#include <string>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

#include "tally_test.h"

namespace {

std::string name_of(tally_tag tag) { return tally::Tag(tag).name(); }

// Expects the call to give this result with this errno.
#define EXPECT_FAILS(call, result, error) \
  do {                                    \
    errno = 0;                            \
    const auto got = call;                \
    const int got_errno = errno;          \
    EXPECT_EQ(got, result) << #call;      \
    EXPECT_EQ(got_errno, error) << #call; \
  } while (0)

TEST(Tag, TheRootIsThere) {
  EXPECT_EQ(name_of(TALLY_TAG_ROOT), "/");
  EXPECT_EQ(tally_tag_create("/"), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_create(""), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_find("/"), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
  EXPECT_EQ(stats_of(TALLY_TAG_ROOT).parent, TALLY_TAG_NONE);
}

TEST(Tag, CreateMakesThePathAndItsParents) {
  errno = 7777;
  const tally_tag leaf = tally_tag_create("create/one/two");
  EXPECT_EQ(errno, 7777);
  ASSERT_NE(leaf, TALLY_TAG_NONE);
  EXPECT_EQ(name_of(leaf), "/create/one/two");
  const tally_tag middle = tally_tag_find("/create/one");
  const tally_tag top = tally_tag_find("/create");
  ASSERT_NE(middle, TALLY_TAG_NONE);
  ASSERT_NE(top, TALLY_TAG_NONE);
  EXPECT_EQ(stats_of(leaf).parent, middle);
  EXPECT_EQ(stats_of(middle).parent, top);
  EXPECT_EQ(stats_of(top).parent, TALLY_TAG_ROOT);
  EXPECT_STREQ(stats_of(leaf).name, "/create/one/two");
}

TEST(Tag, ALeadingSlashMakesNoDifferenceAndASecondCreateNoSecondTag) {
  const tally_tag tag = tally_tag_create("same/path");
  EXPECT_EQ(tally_tag_create("/same/path"), tag);
  EXPECT_EQ(tally_tag_create("same/path"), tag);
  EXPECT_EQ(tally_tag_find("same/path"), tag);
  EXPECT_EQ(tally_tag_find("/same/path"), tag);
  EXPECT_NE(tally_tag_find("/same"), tag);
}

TEST(Tag, TheNameIsCopied) {
  char path[] = "/copied";
  const tally_tag tag = tally_tag_create(path);
  memcpy(path, "/gone!!", sizeof path);
  EXPECT_EQ(name_of(tag), "/copied");
}

TEST(Tag, FindNeverMakesOne) {
  EXPECT_FAILS(tally_tag_find("/nowhere"), TALLY_TAG_NONE, ENOENT);
  EXPECT_FAILS(tally_tag_find("/nowhere/deeper"), TALLY_TAG_NONE, ENOENT);
  EXPECT_FAILS(tally_tag_find("/nowhere"), TALLY_TAG_NONE, ENOENT);
  ASSERT_NE(tally_tag_create("/prefix_long"), TALLY_TAG_NONE);
  EXPECT_FAILS(tally_tag_find("/prefix"), TALLY_TAG_NONE, ENOENT);
}

TEST(Tag, BadPathsAreRefused) {
  EXPECT_FAILS(tally_tag_create(nullptr), TALLY_TAG_NONE, EINVAL);
  EXPECT_FAILS(tally_tag_find(nullptr), TALLY_TAG_NONE, EINVAL);
  for (const char* path :
       {"a//b", "//a", "/a//", "line\nfeed", "tab\there", "\x01", "esc\x1b[0m", "a/\x1f/b"}) {
    EXPECT_FAILS(tally_tag_create(path), TALLY_TAG_NONE, EINVAL);
    EXPECT_FAILS(tally_tag_find(path), TALLY_TAG_NONE, EINVAL);
  }
}

TEST(Tag, PathsAreBounded) {
  const std::string longest = "/" + std::string(TALLY_TAG_PATH_MAX - 1, 'x');
  const tally_tag tag = tally_tag_create(longest.c_str());
  ASSERT_NE(tag, TALLY_TAG_NONE);
  EXPECT_EQ(name_of(tag), longest);
  EXPECT_EQ(tally_tag_find(longest.c_str() + 1), tag) << "the same without the slash";
  EXPECT_FAILS(tally_tag_create((longest + "x").c_str()), TALLY_TAG_NONE, ENAMETOOLONG);
  EXPECT_FAILS(tally_tag_create((longest.substr(1) + "x").c_str()), TALLY_TAG_NONE, ENAMETOOLONG);
  EXPECT_FAILS(tally_tag_find((longest + "x").c_str()), TALLY_TAG_NONE, ENAMETOOLONG);
  EXPECT_FAILS(tally_tag_create(std::string(100000, 'x').c_str()), TALLY_TAG_NONE, ENAMETOOLONG);
  std::string deep;
  for (int i = 0; i < 127; i++) deep += "/d";
  const tally_tag bottom = tally_tag_create(deep.c_str());
  ASSERT_NE(bottom, TALLY_TAG_NONE);
  EXPECT_EQ(name_of(bottom), deep);
}

TEST(Tag, NameWritesAsSnprintfDoes) {
  const tally_tag tag = tally_tag_create("/names/snprintf");
  char buffer[32];
  memset(buffer, '#', sizeof buffer);
  errno = 7777;
  EXPECT_EQ(tally_tag_name(tag, buffer, sizeof buffer), 15u);
  EXPECT_STREQ(buffer, "/names/snprintf");
  memset(buffer, '#', sizeof buffer);
  EXPECT_EQ(tally_tag_name(tag, buffer, 7), 15u);
  EXPECT_STREQ(buffer, "/names");
  EXPECT_EQ(buffer[7], '#');
  memset(buffer, '#', sizeof buffer);
  EXPECT_EQ(tally_tag_name(tag, buffer, 1), 15u);
  EXPECT_EQ(buffer[0], 0);
  EXPECT_EQ(buffer[1], '#');
  EXPECT_EQ(tally_tag_name(tag, nullptr, 0), 15u);
  EXPECT_EQ(tally_tag_name(tag, buffer + 5, 0), 15u);
  EXPECT_EQ(buffer[5], '#');
  EXPECT_EQ(errno, 7777);
  EXPECT_FAILS(tally_tag_name(TALLY_TAG_NONE, buffer, sizeof buffer), 0u, EINVAL);
  EXPECT_FAILS(tally_tag_name(65000, buffer, sizeof buffer), 0u, EINVAL);
}

TEST(Tag, TallysOwnIsThere) {
  const tally_tag own = tally_tag_find("/tally");
  ASSERT_NE(own, TALLY_TAG_NONE);
  EXPECT_EQ(name_of(own), "/tally");
  EXPECT_GT(stats_of(own).own.footprint_bytes, 0u);
}

TEST(Scope, PushAndPopNest) {
  const tally_tag a = tally_tag_create("/nest/a"), b = tally_tag_create("/nest/b");
  errno = 7777;
  EXPECT_EQ(tally_tag_push(a), 0);
  EXPECT_EQ(tally_tag_current(), a);
  void* under_a = malloc(10);
  EXPECT_EQ(tally_tag_push(b), 0);
  void* under_b = malloc(10);
  EXPECT_EQ(tally_tag_push(TALLY_TAG_ROOT), 0);
  void* under_root = malloc(10);
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), b);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), a);
  void* under_a_again = malloc(10);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
  EXPECT_EQ(errno, 7777);
  EXPECT_EQ(tally_tag_of(under_a), a);
  EXPECT_EQ(tally_tag_of(under_b), b);
  EXPECT_EQ(tally_tag_of(under_root), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_of(under_a_again), a);
  for (void* p : {under_a, under_b, under_root, under_a_again}) free(p);
}

TEST(Scope, PopWithNoneOpenIsRefused) {
  EXPECT_FAILS(tally_tag_pop(), -1, EINVAL);
  const tally_tag a = tally_tag_create("/underflow");
  tally_tag_push(a);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_FAILS(tally_tag_pop(), -1, EINVAL);
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
}

TEST(Scope, PushOfNoTagIsRefused) {
  for (tally_tag bad : {TALLY_TAG_NONE, tally_tag{65000}, tally_tag{65535}, tally_tag{1u << 20}}) {
    EXPECT_FAILS(tally_tag_push(bad), -1, EINVAL);
  }
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
  EXPECT_FAILS(tally_tag_pop(), -1, EINVAL);
}

TEST(Scope, NestTo255) {
  std::vector<tally_tag> tags;
  for (int i = 0; i < 5; i++)
    tags.push_back(tally_tag_create(("/depth/" + std::to_string(i)).c_str()));
  for (int i = 0; i < 255; i++) ASSERT_EQ(tally_tag_push(tags[i % 5]), 0) << i;
  EXPECT_FAILS(tally_tag_push(tags[0]), -1, ENOSPC);
  EXPECT_EQ(tally_tag_current(), tags[254 % 5]);
  for (int i = 254; i >= 0; i--) {
    ASSERT_EQ(tally_tag_current(), tags[i % 5]) << i;
    ASSERT_EQ(tally_tag_pop(), 0);
  }
  EXPECT_FAILS(tally_tag_pop(), -1, EINVAL);
}

TEST(Scope, IsTheThreadsOwn) {
  const tally_tag a = tally_tag_create("/threads/a"), b = tally_tag_create("/threads/b");
  tally_tag_push(a);
  std::thread([&] {
    EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
    tally_tag_push(b);
    void* p = malloc(10);
    EXPECT_EQ(tally_tag_of(p), b);
    free(p);
  }).join();
  EXPECT_EQ(tally_tag_current(), a);
  tally_tag_pop();
}

TEST(Scope, ReachesEveryMemberOfTheFamily) {
  const tally_tag tag = tally_tag_create("/members");
  tally_tag_push(tag);
  void* aligned = nullptr;
  ASSERT_EQ(posix_memalign(&aligned, 64, 100), 0);
  void* const blocks[] = {malloc(10),     calloc(3, 7),          realloc(nullptr, 20),
                          aligned,        aligned_alloc(32, 64), memalign(64, 10),
                          valloc(10),     pvalloc(10),           reallocarray(nullptr, 3, 3),
                          strdup("text"), malloc(3000000)};
  char* from_new = new char[100];
  tally_tag_pop();
  for (void* p : blocks) {
    EXPECT_EQ(tally_tag_of(p), tag);
    free(p);
  }
  EXPECT_EQ(tally_tag_of(from_new), tag);
  delete[] from_new;
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

TEST(TagScope, EndsWithItsBlockAndByException) {
  const tally::Tag tag = tally::Tag::create("/scope");
  ASSERT_TRUE(tag);
  {
    const tally::TagScope scope(tag);
    EXPECT_TRUE(scope.active());
    EXPECT_EQ(tally::Tag::current(), tag);
  }
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
  try {
    const tally::TagScope outer(tag);
    const tally::TagScope inner(tally::Tag::create("/scope/inner"));
    EXPECT_EQ(tally::Tag::current().name(), "/scope/inner");
    throw std::runtime_error("out");
  } catch (const std::exception&) {
  }
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
}

TEST(TagScope, UnderNoTagIsInactive) {
  const tally::TagScope scope(TALLY_TAG_NONE);
  EXPECT_FALSE(scope.active());
  EXPECT_EQ(tally_tag_current(), TALLY_TAG_ROOT);
}

// longjmp runs no destructor and no pop: the scope stays open until somebody pops it, and what is
// allocated meanwhile is counted under it.
TEST(Scope, StaysOpenAcrossLongjmp) {
  const tally_tag tag = tally_tag_create("/longjmp");
  jmp_buf out;
  void* volatile p = nullptr;
  if (setjmp(out) == 0) {
    tally_tag_push(tag);
    p = malloc(10);
    longjmp(out, 1);
  }
  EXPECT_EQ(tally_tag_current(), tag);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 1u);
  EXPECT_EQ(tally_tag_pop(), 0);
  free(p);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
  EXPECT_FAILS(tally_tag_pop(), -1, EINVAL);
}

TEST(Tag, ByValueInCxx) {
  const tally::Tag none = tally::Tag::find("/never/made");
  EXPECT_FALSE(none);
  EXPECT_EQ(none.name(), "");
  EXPECT_EQ(none.stats().size, 0u);
  const tally::Tag tag = tally::Tag::create("/by_value");
  EXPECT_TRUE(tag);
  EXPECT_EQ(tally::Tag::find("/by_value"), tag);
  EXPECT_EQ(tag.name(), "/by_value");
  EXPECT_EQ(tag.stats().id, tag.id());
  void* p = tally_malloc(tag.id(), 10);
  EXPECT_EQ(tally::Tag::of(p), tag);
  free(p);
  EXPECT_FALSE(tally::Tag::of(&p));
  EXPECT_TRUE(tag.retire());
  EXPECT_EQ(tally::Tag(), tally::Tag(TALLY_TAG_ROOT));
}

TEST(TagOf, PointersToAnywhere) {
  static int in_data;
  int on_stack;
  auto* small = static_cast<char*>(malloc(1000));
  auto* large = static_cast<char*>(malloc(5000000));
  errno = 7777;
  EXPECT_EQ(tally_tag_of(small), TALLY_TAG_ROOT);
  EXPECT_EQ(tally_tag_of(large), TALLY_TAG_ROOT);
  EXPECT_EQ(errno, 7777);
  EXPECT_FAILS(tally_tag_of(nullptr), TALLY_TAG_NONE, EINVAL);
  EXPECT_FAILS(tally_tag_of(&in_data), TALLY_TAG_NONE, EINVAL);
  EXPECT_FAILS(tally_tag_of(&on_stack), TALLY_TAG_NONE, EINVAL);
  EXPECT_FAILS(tally_tag_of("text"), TALLY_TAG_NONE, EINVAL);
  EXPECT_FAILS(tally_tag_of(reinterpret_cast<void*>(&name_of)), TALLY_TAG_NONE, EINVAL);
  for (size_t offset : {1ul, 8ul, 16ul, 100ul, 512ul, 999ul}) {
    EXPECT_FAILS(tally_tag_of(small + offset), TALLY_TAG_NONE, EINVAL);
  }
  for (size_t offset : {1ul, 16ul, 4096ul, 65536ul, 4194304ul, 4999999ul}) {
    EXPECT_FAILS(tally_tag_of(large + offset), TALLY_TAG_NONE, EINVAL);
  }
  for (uintptr_t address : {uintptr_t{1}, uintptr_t{0x1000}, uintptr_t{0xdeadbeef0}, UINTPTR_MAX,
                            UINTPTR_MAX - 15, uintptr_t{0x4141414141414141}, uintptr_t{1} << 47,
                            (uintptr_t{1} << 47) - 16, uintptr_t{1} << 48, uintptr_t{1} << 63}) {
    EXPECT_FAILS(tally_tag_of(reinterpret_cast<void*>(address)), TALLY_TAG_NONE, EINVAL);
  }
  free(small);
  free(large);
}

// The bookkeeping around the blocks (chunk headers, descriptors) is not a block either.
TEST(TagOf, EveryAddressAroundABlockIsSafe) {
  auto* p = static_cast<char*>(malloc(64));
  auto* chunk = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(p) & ~uintptr_t{0x3fffff});
  for (size_t offset = 0; offset < 4 << 20; offset += 2048) {
    const tally_tag tag = tally_tag_of(chunk + offset + 8);
    ASSERT_EQ(tag, TALLY_TAG_NONE) << offset;
  }
  EXPECT_EQ(tally_tag_of(p), TALLY_TAG_ROOT);
  free(p);
}

}  // namespace
