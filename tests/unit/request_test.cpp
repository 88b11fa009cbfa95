#include "record/request.h"

#include <errno.h>

#include "unit.h"

namespace tally::unit {
namespace {

using namespace record;

Request request(RequestKind kind, const char* tag, uint64_t sequence = 1) {
  Request made = {};
  made.kind = kind;
  made.soft = made.hard = TALLY_LIMIT_NONE;
  strncpy(made.tag, tag, sizeof made.tag);
  made.seal.sequence = sequence;
  return made;
}

// -1: it was none.
int serve(Request one, uint64_t last = 0) {
  one.seal.checksum = seal_of(&one, sizeof one, one.seal.sequence);
  Reply reply;
  return record::serve(one, last, &reply) ? reply.error : -1;
}

TEST(Request, SetsALimitAndMakesTheTag) {
  Request one = request(RequestKind::kSetLimit, "outside/a");
  one.soft = 1000;
  one.hard = 2000;
  one.policy = static_cast<uint32_t>(TALLY_POLICY_WAIT(5));
  EXPECT_EQ(serve(one), 0);
  uint64_t soft, hard;
  tally_policy policy;
  ASSERT_EQ(tally_limit_get(tally_tag_find("/outside/a"), &soft, &hard, &policy), 0);
  EXPECT_EQ(soft, 1000U);
  EXPECT_EQ(hard, 2000U);
  EXPECT_EQ(policy, TALLY_POLICY_WAIT(5));
  one = request(RequestKind::kSetLimit, "/outside/a", 2);
  EXPECT_EQ(serve(one, 1), 0);
  ASSERT_EQ(tally_limit_get(tally_tag_find("/outside/a"), &soft, &hard, nullptr), 0);
  EXPECT_EQ(hard, TALLY_LIMIT_NONE);
}

TEST(Request, WhatIsWrongIsSaid) {
  EXPECT_EQ(serve(request(RequestKind{3}, "a")), EINVAL);
  EXPECT_EQ(serve(request(RequestKind::kSetLimit, "a//b")), EINVAL);
  EXPECT_EQ(serve(request(RequestKind::kSetLimit, "tally")), EINVAL);
  Request one = request(RequestKind::kSetLimit, "wrong");
  one.policy = 3;
  EXPECT_EQ(serve(one), EINVAL);
  one.policy = 0x101;
  EXPECT_EQ(serve(one), EINVAL);
  EXPECT_EQ(tally_tag_find("wrong"), TALLY_TAG_NONE);
  one = request(RequestKind::kSetLimit, "wrong");
  one.soft = 2, one.hard = 1;
  EXPECT_EQ(serve(one), EINVAL);
  memset(one.tag, 'x', sizeof one.tag);
  EXPECT_EQ(serve(one), EINVAL) << "without an end";
  one.tag[255] = 0;
  EXPECT_EQ(serve(one), ENAMETOOLONG);
}

TEST(Request, WhatIsNotWholeOrNotNewIsNone) {
  Request one = request(RequestKind::kSetLimit, "torn", 5);
  one.seal.checksum = seal_of(&one, sizeof one, 5);
  Reply reply;
  EXPECT_FALSE(record::serve(one, 5, &reply));
  one.hard = 1;
  EXPECT_FALSE(record::serve(one, 0, &reply));
  EXPECT_EQ(serve(request(RequestKind::kNone, "torn")), -1) << "withdrawn";
  EXPECT_EQ(tally_tag_find("torn"), TALLY_TAG_NONE);
  Random random(1);
  for (int i = 0; i < 10000; ++i) {
    auto* bytes = reinterpret_cast<unsigned char*>(&one);
    for (size_t at = 0; at < sizeof one; ++at)
      bytes[at] = static_cast<unsigned char>(random.next());
    EXPECT_FALSE(record::serve(one, 0, &reply));
  }
}

TEST(Request, Trims) {
  void* p = tally_malloc(make_tag("/trim"), 20 << 20);
  memset(p, 1, 20 << 20);
  tally_free(p);
  Request one = request(RequestKind::kTrim, "");
  one.seal.checksum = seal_of(&one, sizeof one, 1);
  Reply reply;
  ASSERT_TRUE(record::serve(one, 0, &reply));
  EXPECT_EQ(reply.error, 0);
  EXPECT_GE(reply.bytes, 20U << 20);
}

unsigned g_told = 0;
void note(tally_tag, int, void*) { ++g_told; }

TEST(Request, ListenersAreToldByAThreadOfTheProgram) {
  const tally_tag tag = make_tag("/listens");
  void* p = tally_malloc(tag, 100000);
  ASSERT_EQ(tally_on_pressure(tag, note, nullptr, nullptr), 0);
  on_thread([] {
    Request one = request(RequestKind::kSetLimit, "listens");
    one.soft = 10;
    EXPECT_EQ(serve(one), 0);
    core::leave_noted();
  });
  EXPECT_EQ(g_told, 0U);
  EXPECT_EQ(tally_pressure(tag), TALLY_PRESSURE_SOFT);
  core::take_over_noted();
  tally_trim();  // a step of this thread's
  EXPECT_EQ(g_told, 1U);
  tally_free(p);
}

}  // namespace
}  // namespace tally::unit
