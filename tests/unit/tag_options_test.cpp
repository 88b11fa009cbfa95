#include "runtime/tag_options.h"

#include <string>

#include "tag/rule.h"
#include "unit.h"

namespace tally::unit {
namespace {

using core::NameOf;

class TagOptions : public testing::Test {
 protected:
  // What is said of a file of this text.
  const std::string& read(std::string text) {
    text_ = std::move(text);
    text_.push_back(0);
    testing::internal::CaptureStderr();
    core::read_tag_rules("the.file", text_.data(), text_.size() - 1);
    said_ = testing::internal::GetCapturedStderr();
    return said_;
  }
  static std::string path_of(NameOf kind, const char* name) {
    char path[256];
    core::put_tag_path(kind, name, path);
    return path;
  }

 private:
  std::string text_, said_;
};

TEST_F(TagOptions, WhatIsARule) {
  EXPECT_EQ(read("# names of ours\n"
                 "\n"
                 "libssl*, libcrypto.so.3 -> net/tls   # both\n"
                 "  lib:libz*\t=\t/zip\r\n"
                 "thread: io-#, exe:server \xe2\x86\x92 io\n"
                 "worker-# -> /workers\n"
                 "* -> rest"),
            "");
  EXPECT_EQ(path_of(NameOf::kLibrary, "libssl.so.3"), "net/tls");
  EXPECT_EQ(path_of(NameOf::kLibrary, "libcrypto.so.3"), "net/tls");
  EXPECT_EQ(path_of(NameOf::kLibrary, "libz.so"), "/zip");
  EXPECT_EQ(path_of(NameOf::kProgram, "libz.so"), "rest");
  EXPECT_EQ(path_of(NameOf::kThread, "io-7"), "io");
  EXPECT_EQ(path_of(NameOf::kProgram, "server"), "io");
  EXPECT_EQ(path_of(NameOf::kLibrary, "server"), "rest");
  EXPECT_EQ(path_of(NameOf::kThread, "worker-3"), "/workers");
}

TEST_F(TagOptions, EachBadLineIsSaidAndOthersHold) {
  const std::string line = "tally: TALLY_TAGS line ";
  const std::string wanted =
      " of the.file: expected PATTERN, PATTERN... -> TAG, such as libssl*, libcrypto* -> net/tls\n";
  EXPECT_EQ(read("liba net\nlibb -> b\n"), line + "1" + wanted);
  EXPECT_EQ(path_of(NameOf::kLibrary, "libb"), "b");
  for (const char* bad : {"a", "->", "a ->", "-> a", "a,,b -> c", "lib: -> c", ", a -> b"}) {
    EXPECT_EQ(read(std::string("\n") + bad), line + "2" + wanted) << bad;
  }
  EXPECT_EQ(read("a,b, -> c"), "") << "a comma at the end does no harm";
  EXPECT_EQ(
      read("a -> b//c"),
      line + "1 of the.file: expected a tag's path, as cache/blocks, without an empty name\n");
  EXPECT_EQ(read("a -> tally/x"),
            line + "1 of the.file: expected a tag of the program's, for /tally is Tally's own\n");
  EXPECT_EQ(
      read("a -> " + std::string(300, 'b')),
      line + "1 of the.file: expected a tag's path of at most 255 bytes, its first / included\n");
  EXPECT_EQ(read("a\x01 -> b"), line + "1 of the.file: expected text without control characters\n");
  EXPECT_EQ(path_of(NameOf::kLibrary, "libb"), "/lib/libb")
      << "rules of files read before are gone";
}

TEST_F(TagOptions, ALineHoldsWholeOrNotAtAll) {
  EXPECT_NE(read("liba, , libb -> x\n"), "");
  EXPECT_EQ(path_of(NameOf::kLibrary, "liba"), "/lib/liba");
}

TEST_F(TagOptions, NotManyComplaints) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "nonsense\n";
  const std::string& said = read(text + "a -> b\n");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 11);
  EXPECT_NE(said.find("\ntally: TALLY_TAGS=the.file: more lines are no rules\n"), said.npos);
  EXPECT_EQ(path_of(NameOf::kLibrary, "a"), "b");
}

TEST_F(TagOptions, NotMorePatternsThanThereIsRoom) {
  std::string text;
  for (int i = 0; i < 1024; ++i) text += "p" + std::to_string(i) + " -> t\n";
  EXPECT_EQ(read(text), "");
  EXPECT_EQ(read(text + "q -> t"),
            "tally: TALLY_TAGS line 1025 of the.file: expected at most 1024 patterns in all\n");
  EXPECT_EQ(path_of(NameOf::kLibrary, "p1023"), "t");
}

}  // namespace
}  // namespace tally::unit
