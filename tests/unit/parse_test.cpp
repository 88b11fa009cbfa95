#include "runtime/parse.h"

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using core::Text;

Text text_of(const std::string& string) { return {string.data(), string.size()}; }
std::string string_of(Text text) { return {text.start, text.length}; }

constexpr uint64_t kBad = UINT64_MAX;

// Read from the midst of other text, as the environment is.
uint64_t size_of(const std::string& string) {
  std::string more = string + "9G";
  uint64_t bytes;
  return core::read_size({more.data(), string.size()}, &bytes) ? bytes : kBad;
}

uint64_t number_of(const std::string& string, uint64_t most = UINT64_MAX / 16) {
  uint64_t number;
  return core::read_number(text_of(string), most, &number) ? number : kBad;
}

constexpr uint64_t K = 1024, M = K * K, G = K * M, T = K * G;

TEST(Parse, Sizes) {
  EXPECT_EQ(size_of("0"), 0U);
  EXPECT_EQ(size_of("1"), 1U);
  EXPECT_EQ(size_of("4096"), 4096U);
  EXPECT_EQ(size_of("0064"), 64U);
  EXPECT_EQ(size_of("00000000000000000000000000000064"), 64U);
  EXPECT_EQ(size_of("0K"), 0U);
}

TEST(Parse, Units) {
  EXPECT_EQ(size_of("5B"), 5U);
  EXPECT_EQ(size_of("5b"), 5U);
  for (auto [unit, bytes] : {std::pair{"k", K}, {"m", M}, {"g", G}, {"t", T}}) {
    for (std::string name :
         {std::string(unit), std::string(1, static_cast<char>(toupper(*unit)))}) {
      for (const char* end : {"", "b", "B", "ib", "iB", "IB"}) {
        EXPECT_EQ(size_of("7" + name + end), 7 * bytes) << name << end;
      }
      for (const char* end : {"i", "bb", "bi", "ibb", "ibi", " ", "x", "k"}) {
        EXPECT_EQ(size_of("7" + name + end), kBad) << name << end;
      }
    }
  }
  for (const char* unit :
       {"x", "p", "e", "bb", "ib", "bib", "i", "%", " ", " K", "-", "+", ",", ":"}) {
    EXPECT_EQ(size_of(std::string("7") + unit), kBad) << unit;
  }
}

TEST(Parse, Fractions) {
  EXPECT_EQ(size_of("1.5K"), 1536U);
  EXPECT_EQ(size_of("1.5G"), 3 * G / 2);
  EXPECT_EQ(size_of("0.5T"), T / 2);
  EXPECT_EQ(size_of("0.25MiB"), M / 4);
  EXPECT_EQ(size_of("2.000000G"), 2 * G);
  EXPECT_EQ(size_of("0.000001T"), 1099511U);  // rounded down
  EXPECT_EQ(size_of("0.999999T"), T - 1099512);
  EXPECT_EQ(size_of("0.999K"), 1022U);
  for (const char* bad : {"1.5", "1.", "1.K", ".5K", ".", "1..5K", "1.5.5K", "1,5K", "1.0000001G",
                          "1e3", "1.5e3K", "1.-5K"}) {
    EXPECT_EQ(size_of(bad), kBad) << bad;
  }
}

TEST(Parse, SizesEndAt64T) {
  EXPECT_EQ(size_of("64T"), 64 * T);
  EXPECT_EQ(size_of("65536G"), 64 * T);
  EXPECT_EQ(size_of("70368744177664"), 64 * T);
  EXPECT_EQ(size_of("63.999999T"), 64 * T - 1099512);
  for (const char* bad :
       {"70368744177665", "65T", "64.000001T", "65537G", "65536.1G", "68719476737K",
        // What overflows 64 bits, with and without the unit.
        "18446744073709551615", "18446744073709551616", "18446744073709551680", "16777216T",
        "16777217T", "18014398509481985K", "17179869185G", "99999999999999999999999999999999",
        "340282366920938463463374607431768211457"}) {
    EXPECT_EQ(size_of(bad), kBad) << bad;
  }
}

TEST(Parse, WhatIsNoSize) {
  for (const char* bad : {"", "K", "-1", "+1", "-64M", " 1", "1 ", "x", "0x10", "M1", "1M2", "nan",
                          "inf", "%", "90%", "1_000", "\xc2\xb2"}) {
    EXPECT_EQ(size_of(bad), kBad) << bad;
  }
}

TEST(Parse, Numbers) {
  EXPECT_EQ(number_of("0"), 0U);
  EXPECT_EQ(number_of("007"), 7U);
  EXPECT_EQ(number_of("100", 100), 100U);
  EXPECT_EQ(number_of("101", 100), kBad);
  EXPECT_EQ(number_of("4294967295", UINT32_MAX), UINT32_MAX);
  EXPECT_EQ(number_of("4294967296", UINT32_MAX), kBad);
  EXPECT_EQ(number_of("1152921504606846975"), UINT64_MAX / 16);
  EXPECT_EQ(number_of("1152921504606846976"), kBad);
  EXPECT_EQ(number_of("18446744073709551616"), kBad);
  EXPECT_EQ(number_of("18446744073709551617", 100), kBad);
  for (const char* bad : {"", " ", "-1", "+1", "1 ", " 1", "1.0", "1K", "x", "0x1"}) {
    EXPECT_EQ(number_of(bad), kBad) << bad;
  }
}

TEST(Parse, Parts) {
  std::string list = "a:b::c:";
  Text rest = text_of(list);
  for (const char* part : {"a", "b", "", "c"})
    EXPECT_EQ(string_of(core::next_part(&rest, ':')), part);
  EXPECT_EQ(rest.length, 0U);
  EXPECT_EQ(core::next_part(&rest, ':').length, 0U);
  std::string whole = "no such";
  rest = text_of(whole);
  EXPECT_EQ(core::find(rest, ':'), rest.length);
  EXPECT_EQ(core::find(rest, 's'), 3U);
  EXPECT_EQ(string_of(core::next_part(&rest, ':')), whole);
  EXPECT_EQ(rest.length, 0U);
}

TEST(Parse, Words) {
  EXPECT_TRUE(core::same_letters(text_of("SoFt"), "soft"));
  EXPECT_FALSE(core::same_letters(text_of("sof"), "soft"));
  EXPECT_FALSE(core::same_letters(text_of("softs"), "soft"));
  EXPECT_TRUE(text_of("soft").is("soft"));
  EXPECT_FALSE(text_of("Soft").is("soft"));
  EXPECT_FALSE(text_of("").is("soft"));
  EXPECT_TRUE(core::has_only_digits(text_of("0123456789")));
  EXPECT_FALSE(core::has_only_digits(text_of("")));
  EXPECT_FALSE(core::has_only_digits(text_of("1a")));
  for (const char* spaced : {"a b", " a b", "a b  ", "  a b "}) {
    EXPECT_EQ(string_of(core::without_spaces(text_of(spaced))), "a b");
  }
  EXPECT_EQ(string_of(core::without_spaces(text_of("   "))), "");
}

// One line, whatever the text: nothing in it moves the terminal's cursor.
TEST(Parse, Complaints) {
  auto said = [](const std::string& text) {
    testing::internal::CaptureStderr();
    core::complain_expected("TALLY_X=", text_of(text), "sense");
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said("y"), "tally: TALLY_X=y: expected sense\n");
  EXPECT_EQ(said("a\nb\x1b[0m\x7f"), "tally: TALLY_X=a?b?[0m?: expected sense\n");
  EXPECT_EQ(said(std::string(100000, 'z')),
            "tally: TALLY_X=" + std::string(200, 'z') + ": expected sense\n");
  // Latin-1's controls, which are two bytes in UTF-8, but no other characters; and none is cut.
  EXPECT_EQ(said("a\xc2\x9b"
                 "31mb\xc2\xa0\xc3\x9b"),
            "tally: TALLY_X=a?31mb\xc2\xa0\xc3\x9b: expected sense\n");
  EXPECT_EQ(said(std::string(199, 'z') + "\xc3\xa9y"),
            "tally: TALLY_X=" + std::string(199, 'z') + ": expected sense\n");
  EXPECT_EQ(said("a\xc2"), "tally: TALLY_X=a\xc2: expected sense\n");
}

}  // namespace
}  // namespace tally::unit
