#include "tag/rule.h"

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using core::NameOf;
using core::TagRule;

std::string folded(std::string name) {
  name.push_back(0);
  core::fold_number(name.data());
  return name.c_str();
}

std::string path_of(NameOf kind, const std::string& name) {
  char path[256];
  core::put_tag_path(kind, name.c_str(), path);
  return path;
}

constexpr uint8_t only(NameOf kind) {
  return static_cast<uint8_t>(1U << static_cast<unsigned>(kind));
}

TEST(Rule, Patterns) {
  struct {
    const char* pattern;
    const char* name;
    bool expected;
  } cases[] = {
      {"libssl.so.3", "libssl.so.3", true},
      {"libssl.so", "libssl.so.3", false},
      {"libssl.so.3", "libssl.so", false},
      {"libssl*", "libssl.so.3", true},
      {"libssl*", "libssl", true},
      {"*ssl*", "libssl.so.3", true},
      {"*.so", "libssl.so.3", false},
      {"*.so.*", "libssl.so.3", true},
      {"*", "", true},
      {"", "", true},
      {"", "a", false},
      {"?", "", false},
      {"?", "a", true},
      {"lib???.so*", "libssl.so.3", true},
      {"lib??.so*", "libssl.so.3", false},
      {"*a*b*c", "xxaxxbxxbxxc", true},
      {"*a*b*c", "xxaxxbxxbxx", false},
      {"**?**", "a", true},
      {"a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
       false},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(core::matches(each.pattern, each.name), each.expected)
        << each.pattern << " and " << each.name;
  }
}

TEST(Rule, NumbersAtTheEndAreFolded) {
  EXPECT_EQ(folded("worker-12"), "worker-#");
  EXPECT_EQ(folded("worker-1"), "worker-#");
  EXPECT_EQ(folded("worker12x"), "worker12x");
  EXPECT_EQ(folded("worker"), "worker");
  EXPECT_EQ(folded("3com7"), "3com#");
  EXPECT_EQ(folded("123"), "#");
  EXPECT_EQ(folded(""), "");
}

TEST(Rule, PathsWithoutRules) {
  EXPECT_EQ(path_of(NameOf::kLibrary, "libssl.so.3"), "/lib/libssl.so.3");
  EXPECT_EQ(path_of(NameOf::kProgram, "python3.11"), "/exe/python3.11");
  EXPECT_EQ(path_of(NameOf::kThread, "worker-12"), "/thread/worker-#");
  EXPECT_EQ(path_of(NameOf::kLibrary, "a/b"), "/lib/a_b");
  EXPECT_EQ(path_of(NameOf::kThread,
                    "a\n\x7f\xc2\x9f"
                    "b"),
            "/thread/a__\xc2_b");
  EXPECT_EQ(path_of(NameOf::kThread, "\xc3\xa4"), "/thread/\xc3\xa4");
  EXPECT_EQ(path_of(NameOf::kThread, ""), "/thread/unnamed");
  // Cut, but not within a character.
  EXPECT_EQ(path_of(NameOf::kLibrary, std::string(300, 'x')), "/lib/" + std::string(200, 'x'));
  const std::string most(199, 'x');
  EXPECT_EQ(path_of(NameOf::kLibrary, most + "\xc3\xa4yz"), "/lib/" + most);
}

// Whatever the name is, there is a tag for it.
TEST(Rule, AnyBytesMakeAPath) {
  for (unsigned c = 1; c < 256; ++c) {
    for (unsigned d : {0x20U, 0x80U, 0x9fU, 0xc2U, unsigned{'/'}}) {
      std::string name = {static_cast<char>(c), static_cast<char>(d)};
      EXPECT_EQ(core::check_tag_path(path_of(NameOf::kLibrary, name).c_str()), 0) << c << ' ' << d;
    }
  }
}

TEST(Rule, TheFirstRuleThatMatchesHolds) {
  static const TagRule rules[] = {
      {"libssl*", "net/tls", core::kAllKinds},
      {"lib*", "others", only(NameOf::kLibrary)},
      {"worker-1", "first", only(NameOf::kThread)},
      {"worker-#", "/workers", only(NameOf::kThread)},
      {"lib*", "odd", core::kAllKinds},
  };
  core::set_tag_rules(rules, std::size(rules));
  EXPECT_EQ(path_of(NameOf::kLibrary, "libssl.so.3"), "net/tls");
  EXPECT_EQ(path_of(NameOf::kLibrary, "libz.so"), "others");
  EXPECT_EQ(path_of(NameOf::kProgram, "libz.so"), "odd");
  EXPECT_EQ(path_of(NameOf::kThread, "worker-1"), "first");
  EXPECT_EQ(path_of(NameOf::kThread, "worker-2"), "/workers");
  EXPECT_EQ(path_of(NameOf::kLibrary, "worker-2"), "/lib/worker-2");
  core::set_tag_rules(nullptr, 0);
  EXPECT_EQ(path_of(NameOf::kLibrary, "libssl.so.3"), "/lib/libssl.so.3");
}

TEST(Rule, TheTagIsMadeOnceAndNotRevived) {
  const core::Tag* tag = core::tag_of_name(NameOf::kLibrary, "liba.so");
  EXPECT_STREQ(tag->name, "/lib/liba.so");
  EXPECT_EQ(core::tag_of_name(NameOf::kLibrary, "liba.so"), tag);
  EXPECT_EQ(tally_tag_find("/lib/liba.so"), tag->id);
  // Who retires it gets what comes counted above it.
  void* p = tally_malloc(tag->id, 100);
  ASSERT_EQ(tally_tag_retire(tag->id), 0);
  EXPECT_STREQ(core::tag_of_name(NameOf::kLibrary, "liba.so")->name, "/lib");
  ASSERT_EQ(tally_tag_retire(tally_tag_find("/lib")), 0);
  EXPECT_STREQ(core::tag_of_name(NameOf::kLibrary, "liba.so")->name, "/");
  EXPECT_STREQ(core::tag_of_name(NameOf::kLibrary, "libb.so")->name, "/");
  tally_free(p);
}

TEST(Rule, WithoutMoreTagsThereIsTheNearestAbove) {
  for (int i = 0; tally_tag_create(("fill/" + std::to_string(i)).c_str()) != TALLY_TAG_NONE; ++i) {
  }
  EXPECT_STREQ(core::tag_of_name(NameOf::kLibrary, "libc.so")->name, "/");
  EXPECT_STREQ(core::tag_of_name(NameOf::kThread, "0")->name, "/");
  static const TagRule rule = {"*", "fill/1/below", core::kAllKinds};
  core::set_tag_rules(&rule, 1);
  EXPECT_STREQ(core::tag_of_name(NameOf::kThread, "x")->name, "/fill/1");
}

TEST(Rule, PathsThatTagsMayHave) {
  EXPECT_EQ(core::check_tag_path("a/b"), 0);
  EXPECT_EQ(core::check_tag_path("/"), 0);
  EXPECT_EQ(core::check_tag_path("a//b"), EINVAL);
  EXPECT_EQ(core::check_tag_path("a\nb"), EINVAL);
  EXPECT_EQ(core::check_tag_path(std::string(300, 'x').c_str()), ENAMETOOLONG);
  EXPECT_EQ(core::check_tag_path("tally"), EPERM);
  EXPECT_EQ(core::check_tag_path("/tally/x"), EPERM);
  EXPECT_EQ(core::check_tag_path("/tallyho"), 0);
}

}  // namespace
}  // namespace tally::unit
