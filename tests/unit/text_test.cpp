#include "base/text.h"

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using core::TextWriter;

std::string written(void (*write)(TextWriter&)) {
  char buffer[256];
  TextWriter out(buffer, sizeof buffer);
  write(out);
  EXPECT_EQ(out.used(), out.length());
  return {buffer, out.used()};
}

TEST(Text, Numbers) {
  EXPECT_EQ(written([](TextWriter& o) { o.number(0); }), "0");
  EXPECT_EQ(written([](TextWriter& o) { o.number(1234567890); }), "1234567890");
  EXPECT_EQ(written([](TextWriter& o) { o.number(UINT64_MAX); }), "18446744073709551615");
}

TEST(Text, Hex) {
  EXPECT_EQ(written([](TextWriter& o) { o.hex(0); }), "0x0");
  EXPECT_EQ(written([](TextWriter& o) { o.hex(0x7f00deadbeef); }), "0x7f00deadbeef");
  EXPECT_EQ(written([](TextWriter& o) { o.hex(UINT64_MAX); }), "0xffffffffffffffff");
}

TEST(Text, Chains) {
  EXPECT_EQ(written([](TextWriter& o) {
              o.put('a').put("bc").put("defg", 2).spaces(3).put("").put('.');
            }),
            "abcde   .");
}

TEST(Text, CountsWhatDoesNotFit) {
  char buffer[5] = "####";
  TextWriter out(buffer, 3);
  out.put("hello").number(42);
  EXPECT_EQ(out.used(), 3U);
  EXPECT_EQ(out.length(), 7U);
  EXPECT_STREQ(buffer, "hel#");
  EXPECT_TRUE(out.flush()) << "there is nowhere to write";
}

TEST(Text, NoBufferAtAll) {
  TextWriter out(nullptr, 0);
  out.put("hello");
  EXPECT_EQ(out.length(), 5U);
  EXPECT_EQ(out.used(), 0U);
}

struct Sink {
  std::string text;
  int writes = 0;
  int fail_at = -1;

  static bool write(void* to, const char* text, size_t length) {
    auto* sink = static_cast<Sink*>(to);
    if (sink->writes++ == sink->fail_at) return false;
    sink->text.append(text, length);
    return true;
  }
};

TEST(Text, WritesOnWhenTheBufferIsFull) {
  for (size_t capacity = 1; capacity < 12; ++capacity) {
    Sink sink;
    char buffer[12];
    TextWriter out(buffer, capacity, Sink::write, &sink);
    out.put("0123456789");
    EXPECT_TRUE(out.flush());
    EXPECT_EQ(sink.text, "0123456789");
    EXPECT_EQ(out.length(), 10U);
    EXPECT_EQ(sink.writes, static_cast<int>((10 + capacity - 1) / capacity));
  }
}

TEST(Text, RemembersThatAWriteFailed) {
  Sink sink;
  sink.fail_at = 1;
  char buffer[4];
  TextWriter out(buffer, sizeof buffer, Sink::write, &sink);
  out.put("0123456789");
  EXPECT_FALSE(out.flush());
  EXPECT_FALSE(out.flush());
  EXPECT_EQ(sink.text, "012389");
}

}  // namespace
}  // namespace tally::unit
