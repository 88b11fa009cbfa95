#include "tag/tag.h"

#include <errno.h>

#include <algorithm>
#include <memory>
#include <string>

#include "fake_os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

int create(const std::string& path, uint32_t* id) { return create_tag(path.c_str(), id); }

uint32_t created(const std::string& path) {
  uint32_t id = kNoTag;
  EXPECT_EQ(create(path, &id), 0) << path;
  return id;
}

int look_up(const char* path) {
  uint32_t id;
  return lookup_tag(path, &id);
}

TEST(Tag, OnePathOneTag) {
  uint32_t id = created("cache/blocks");
  EXPECT_EQ(created("/cache/blocks"), id);
  uint32_t found = kNoTag;
  EXPECT_EQ(lookup_tag("cache/blocks", &found), 0);
  EXPECT_EQ(found, id);
  EXPECT_STREQ(find_tag(id)->name, "/cache/blocks");
  EXPECT_EQ(find_tag(id)->name_length, 13U);
  EXPECT_EQ(find_tag(id)->parent(), find_tag(created("/cache")));
  EXPECT_EQ(find_tag(id)->parent()->parent(), root_tag());
}

TEST(Tag, TheRootAndOurOwn) {
  EXPECT_EQ(created(""), kRootTag);
  EXPECT_EQ(created("/"), kRootTag);
  EXPECT_EQ(created("/tally"), kOwnTag);
  EXPECT_EQ(root_tag()->parent(), nullptr);
  EXPECT_EQ(retire_tag(kRootTag), EINVAL);
  EXPECT_EQ(retire_tag(kOwnTag), EINVAL);
  EXPECT_EQ(find_tag(kOwnTag)->parent(), root_tag());
}

TEST(Tag, PathsThatAreNone) {
  uint32_t id;
  EXPECT_EQ(create_tag(nullptr, &id), EINVAL);
  for (const char* path :
       {"//", "//a", "a//b", "a/", "/a/", "/a//", "a\nb", "\x01", "a\x7f", "a/\t", "///"}) {
    EXPECT_EQ(create(path, &id), EINVAL) << path;
    EXPECT_EQ(look_up(path), EINVAL) << path;
  }
  for (const char* path :
       {" ", "a b", "\xc3\xa4", "\xff", ".", "..", "a.b/c-d", "\"", "\\", "%p"}) {
    EXPECT_EQ(create(path, &id), 0) << path;
    EXPECT_EQ(look_up(path), 0) << path;
  }
}

TEST(Tag, ThePathsLimit) {
  uint32_t id;
  std::string most = "/" + std::string(TALLY_TAG_PATH_MAX - 1, 'x');
  EXPECT_EQ(create(most, &id), 0);
  EXPECT_EQ(created(most.substr(1)), id);
  EXPECT_EQ(create(most + "x", &id), ENAMETOOLONG);
  EXPECT_EQ(create(most.substr(1) + "x", &id), ENAMETOOLONG)
      << "counted with the slash that it gets";
  EXPECT_EQ(create(std::string(100000, 'x'), &id), ENAMETOOLONG);
  std::string deep;
  for (int i = 0; i < 127; ++i) deep += "/d";
  ASSERT_EQ(deep.size(), 254U);
  EXPECT_EQ(create(deep, &id), 0);
  int depth = 0;
  for (const Tag* tag = find_tag(id); tag != nullptr; tag = tag->parent()) ++depth;
  EXPECT_EQ(depth, 128);
}

TEST(Tag, AFailedCreateLeavesNothing) {
  uint32_t limit = tag_limit();
  uint32_t id = 77;
  EXPECT_EQ(create("new/a//b", &id), EINVAL);
  EXPECT_EQ(id, 77U);
  EXPECT_EQ(look_up("new"), ENOENT);
  EXPECT_EQ(tag_limit(), limit);
}

TEST(Tag, RetiredIsNotFoundUntilItIsRevived) {
  uint32_t id = created("/gone/soon");
  find_tag(id)->charge(100);
  EXPECT_EQ(retire_tag(id), 0);
  EXPECT_EQ(retire_tag(id), EINVAL) << "once is enough";
  EXPECT_EQ(look_up("/gone/soon"), ENOENT);
  ASSERT_NE(find_tag(id), nullptr) << "it holds something";
  EXPECT_FALSE(find_tag(id)->is_live());
  EXPECT_EQ(find_tag(id)->nearest_live(), find_tag(created("/gone")));
  EXPECT_EQ(created("/gone/soon"), id);
  EXPECT_TRUE(find_tag(id)->is_live());
  EXPECT_EQ(find_tag(id)->own.now.load(), 100U);
  find_tag(id)->uncharge(100);
}

TEST(Tag, ReviveTakesTheParentsAlong) {
  uint32_t child = created("/p/q/r");
  find_tag(child)->charge(1);
  EXPECT_EQ(retire_tag(created("/p")), 0);
  EXPECT_EQ(created("/p/q/r"), child) << "a live tag may stand below a retired one";
  EXPECT_EQ(look_up("/p"), ENOENT);
  EXPECT_EQ(retire_tag(created("/p/q")), 0);
  EXPECT_EQ(retire_tag(child), 0);
  EXPECT_EQ(find_tag(child)->nearest_live(), root_tag());
  EXPECT_EQ(created("/p/q/r"), child);
  for (const Tag* tag = find_tag(child); tag != nullptr; tag = tag->parent())
    EXPECT_TRUE(tag->is_live());
  find_tag(child)->uncharge(1);
}

TEST(Tag, AnEmptyRetiredTagsIdIsUsedAgain) {
  uint32_t id = created("/once");
  EXPECT_EQ(retire_tag(id), 0);
  uint32_t limit = tag_limit();
  uint32_t next = created("/another");
  EXPECT_EQ(next, id);
  EXPECT_EQ(tag_limit(), limit);
  EXPECT_STREQ(find_tag(id)->name, "/another");
  EXPECT_EQ(look_up("/once"), ENOENT);
}

TEST(Tag, WhoReadsKeepsWhatItFound) {
  const uint32_t id = created("/read");
  auto reader = std::make_unique<TagReader>();
  const char* name = find_tag(id)->name;
  EXPECT_EQ(retire_tag(id), 0);
  for (int i = 0; i < 20; ++i) {
    TagReader another;
    EXPECT_NE(created("/meanwhile/" + std::to_string(i)), id);
    EXPECT_STREQ(name, "/read");
  }
  reader.reset();
  created("/then");
  EXPECT_STREQ(find_tag(id)->name, "/then");
}

// As where threads that read do not get a processor: at each moment there is one that has begun.
TEST(Tag, ReadersThatFollowEachOtherKeepNoIds) {
  const uint32_t first = created("/followed");
  uint32_t highest = 0;
  auto reader = std::make_unique<TagReader>();
  for (int i = 0; i < 1000; ++i) {
    reader = std::make_unique<TagReader>();  // which is there before the other goes
    uint32_t id = created("/followed/" + std::to_string(i));
    highest = std::max(highest, id);
    EXPECT_EQ(retire_tag(id), 0);
  }
  EXPECT_LT(highest, first + 10);
}

// A handler that forks comes back, in the child, to what it interrupted.
TEST(Tag, AReaderThatWasInterruptedByAForkKeepsNoIds) {
  auto reader = std::make_unique<TagReader>();
  TagReader::forget_all();
  reader.reset();
  const uint32_t first = created("/child");
  for (int i = 0; i < 50; ++i) {
    uint32_t id = created("/child/" + std::to_string(i));
    EXPECT_LT(id, first + 10);
    EXPECT_EQ(retire_tag(id), 0);
  }
}

TEST(Tag, WhatHoldsSomethingIsNotReaped) {
  uint32_t charged = created("/holds/bytes"), bound = created("/holds/heap"),
           parent = created("/holds");
  find_tag(charged)->charge(4096);
  find_tag(bound)->heaps.fetch_add(1);
  for (uint32_t id : {charged, bound, parent}) EXPECT_EQ(retire_tag(id), 0);
  created("/one"), created("/two");
  for (uint32_t id : {charged, bound, parent}) ASSERT_NE(find_tag(id), nullptr);
  find_tag(charged)->uncharge(4096);
  find_tag(bound)->heaps.fetch_sub(1);
  created("/three"), created("/four"), created("/five"), created("/six");
  EXPECT_STRNE(find_tag(charged)->name, "/holds/bytes");
  EXPECT_STRNE(find_tag(bound)->name, "/holds/heap");
  EXPECT_STRNE(find_tag(parent)->name, "/holds");
  EXPECT_EQ(find_tag(charged)->own.peak.load(), 0U) << "a used id starts from zero";
}

TEST(Tag, ManyRetiredThatStayDoNotHideOneThatCanGo) {
  std::vector<uint32_t> stay;
  uint32_t goes = created("/goes");
  EXPECT_EQ(retire_tag(goes), 0);
  for (int i = 0; i < 100; ++i) {
    stay.push_back(created("/stay/" + std::to_string(i)));
    find_tag(stay.back())->charge(1);
    EXPECT_EQ(retire_tag(stay.back()), 0);
  }
  for (int i = 0; i < 10; ++i) created("/more/" + std::to_string(i));
  EXPECT_STRNE(find_tag(goes)->name, "/goes");
  for (uint32_t id : stay) find_tag(id)->uncharge(1);
}

// A tag for each request, retired while it holds something still, as those after it are.
TEST(Tag, EachThatStayedAWhileHasItsTurn) {
  const uint32_t first = created("/turn");
  uint32_t highest = 0, before = 0;
  for (int i = 0; i < 1000; ++i) {
    uint32_t id = created("/turn/" + std::to_string(i));
    highest = std::max(highest, id);
    find_tag(id)->charge(1);
    if (before != 0) find_tag(before)->uncharge(1);
    EXPECT_EQ(retire_tag(id), 0);
    before = id;
  }
  EXPECT_LT(highest, first + 300);
  find_tag(before)->uncharge(1);
}

TEST(Tag, IdsRunOutAndComeBack) {
  uint32_t id = 0;
  int error = 0, made = 0;
  while (error == 0) error = create("/n" + std::to_string(made++), &id);
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(tag_limit(), static_cast<uint32_t>(TALLY_TAG_MAX));
  EXPECT_EQ(id, static_cast<uint32_t>(TALLY_TAG_MAX) - 1);
  EXPECT_EQ(find_tag(id + 1), nullptr);
  EXPECT_EQ(look_up("/n0"), 0);
  EXPECT_EQ(create("/n0", &id), 0) << "what exists needs no id";
  EXPECT_EQ(create("/deep/er", &id), ENOSPC);
  EXPECT_EQ(look_up("/deep"), ENOENT);
  EXPECT_EQ(retire_tag(created("/n7")), 0);
  EXPECT_EQ(create("/again", &id), 0);
  EXPECT_EQ(create("/again2", &id), ENOSPC);
  // One that may go is found behind any number that may not.
  std::vector<uint32_t> hold;
  for (int i = 100; i < 200; ++i) hold.push_back(created("/n" + std::to_string(i)));
  EXPECT_EQ(retire_tag(created("/again")), 0);
  for (uint32_t one : hold) {
    find_tag(one)->charge(1);
    EXPECT_EQ(retire_tag(one), 0);
  }
  EXPECT_EQ(create("/again3", &id), 0);
  for (uint32_t one : hold) find_tag(one)->uncharge(1);
  for (int i = 0; i < made; ++i) {
    if (lookup_tag(("/n" + std::to_string(i)).c_str(), &id) == 0) retire_tag(id);
  }
}

TEST(Tag, WithoutMemoryNothingIsMade) {
  if (tag_limit() == TALLY_TAG_MAX) GTEST_SKIP() << "another test left ids enough";
  fake_os::Failing no_maps(fake_os::kMap);
  uint32_t id = kNoTag;
  int error = 0, made = 0;
  for (; error == 0 && made < 20000; ++made) error = create("/m" + std::to_string(made), &id);
  EXPECT_EQ(error, ENOMEM);
  EXPECT_EQ(look_up(("/m" + std::to_string(made - 1)).c_str()), ENOENT);
  fake_os::fail_none();
  EXPECT_EQ(create("/m" + std::to_string(made - 1), &id), 0);
}

TEST(Tag, ChargesCountUpwardsAndPeaksStay) {
  Tag* leaf = find_tag(created("/sum/leaf"));
  Tag* other = find_tag(created("/sum/other"));
  Tag* top = leaf->parent();
  uint64_t root = meta::process.held();
  leaf->charge(100);
  other->charge(50);
  leaf->uncharge(70);
  EXPECT_EQ(leaf->own.now.load(), 30U);
  EXPECT_EQ(leaf->own.peak.load(), 100U);
  EXPECT_EQ(top->own.now.load(), 0U);
  EXPECT_EQ(top->total.held(), 80U);
  EXPECT_EQ(top->total.peak(), 150U);
  EXPECT_EQ(meta::process.held(), root + 80);
  leaf->uncharge(30);
  other->uncharge(50);
  EXPECT_EQ(top->total.held(), 0U);
}

TEST(Tag, ManyThreadsMakeTheSameTags) {
  constexpr int kThreads = 4, kTags = 300;
  std::vector<std::vector<uint32_t>> ids(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&ids, t] {
      for (int i = 0; i < kTags; ++i) {
        ids[t].push_back(created("/same/" + std::to_string(i % 10) + "/" + std::to_string(i)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 1; t < kThreads; ++t) EXPECT_EQ(ids[t], ids[0]);
  std::sort(ids[0].begin(), ids[0].end());
  EXPECT_EQ(std::unique(ids[0].begin(), ids[0].end()), ids[0].end());
}

TEST(Tag, ThreadsMakeAndRetireAtOnce) {
  std::vector<std::thread> threads;
  uint32_t limit = tag_limit();
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 2000; ++i) {
        uint32_t id = created("/churn/" + std::to_string(t) + "/" + std::to_string(i));
        EXPECT_EQ(find_tag(id)->name_length, std::to_string(i).size() + 9);
        EXPECT_EQ(retire_tag(id), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(tag_limit(), limit + 200) << "ids were used again";
}

// The last block's bytes are what keeps a retired tag from being used again, so they must be the
// last thing that is taken off. tests/model/tag_model.cpp shows the order in which they are not.
TEST(Tag, TotalsAreRightWhoeverUsesTheIdNext) {
  std::atomic<bool> stop{false};
  std::atomic<bool> wrapped{false};
  std::thread creator([&] {
    while (!stop.load()) {
      uint32_t id = created("/reap/next");
      const Tag* tag = find_tag(id);
      for (int i = 0; i < 20; ++i) {
        if (tag->total.held() > uint64_t{1} << 60) wrapped.store(true);
      }
      EXPECT_EQ(retire_tag(id), 0);
    }
  });
  for (int i = 0; i < 100000; ++i) {
    uint32_t id = created("/last/block");
    Tag* tag = find_tag(id);
    tag->charge(4096);
    EXPECT_EQ(retire_tag(id), 0);
    tag->uncharge(4096);
  }
  stop.store(true);
  creator.join();
  EXPECT_FALSE(wrapped.load());
  EXPECT_EQ(find_tag(created("/last"))->total.held(), 0U);
  EXPECT_EQ(find_tag(created("/reap"))->total.held(), 0U);
}

TEST(Tag, WithoutIdsACreateLeavesNoParents) {
  std::vector<uint32_t> ids;
  uint32_t id;
  while (create(("full/" + std::to_string(ids.size())).c_str(), &id) == 0) ids.push_back(id);
  ASSERT_EQ(retire_tag(ids.back()), 0);
  EXPECT_EQ(create("parent/child", &id), ENOSPC) << "one is left, two are needed";
  EXPECT_EQ(look_up("parent"), ENOENT);
  // A parent that was retired and still holds something is as it was, too.
  Tag* held = find_tag(ids[0]);
  held->charge(100);
  ASSERT_EQ(retire_tag(ids[0]), 0);
  std::string below = std::string(held->name) + "/a/b";
  EXPECT_EQ(create(below.c_str(), &id), ENOSPC);
  EXPECT_FALSE(held->is_live());
  held->uncharge(100);
  EXPECT_EQ(create("alone", &id), 0) << "the one is still there";
  retire_tag(id);
  ids.pop_back();
  for (uint32_t each : ids) {
    if (each != ids[0]) retire_tag(each);
  }
}

}  // namespace
}  // namespace tally::unit
