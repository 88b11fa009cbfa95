// Everything at once: tally_snapshot, and its JSON and text forms into buffers and files.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "oracle.hpp"
#include "tally_test.h"

namespace {

constexpr size_t kMiB = 1 << 20;

struct Snapshot {
  Snapshot() : s(tally_snapshot()) {}
  ~Snapshot() { tally_snapshot_free(s); }
  const tally_stats_t* tag(tally_tag id) const {
    for (uint64_t i = 0; i < s->tag_count; i++) {
      if (s->tags[i].id == id) return &s->tags[i];
    }
    return nullptr;
  }
  tally_snapshot_t* const s;
};

TEST(Snapshot, SaysWhatItIs) {
  errno = 7777;
  const Snapshot snapshot;
  EXPECT_EQ(errno, 7777);
  ASSERT_NE(snapshot.s, nullptr);
  EXPECT_EQ(snapshot.s->size, sizeof(tally_snapshot_t));
  EXPECT_EQ(snapshot.s->version, uint32_t{TALLY_STATS_VERSION});
  EXPECT_EQ(snapshot.s->pid, getpid());
  EXPECT_STREQ(snapshot.s->backend, backend_name());
  EXPECT_LE(snapshot.s->process.backend_bytes, snapshot.s->process.mapped_bytes);
  EXPECT_GE(snapshot.s->process.mapped_bytes, snapshot.s->process.backend_chunks * 4 * 1024 * 1024);
  tally_snapshot_free(nullptr);
}

TEST(Snapshot, TakingOneAllocatesNothingFromTheHeapItDescribes) {
  const tally_counts before = stats_of(TALLY_TAG_ROOT).own;
  for (int i = 0; i < 10; i++) tally_snapshot_free(tally_snapshot());
  char buffer[100];
  tally_snapshot_json(buffer, sizeof buffer);
  tally_snapshot_text(buffer, sizeof buffer);
  const tally_counts after = stats_of(TALLY_TAG_ROOT).own;
  EXPECT_EQ(after.alloc_count, before.alloc_count);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
}

TEST(Snapshot, RowsOfTagsAgreeWithTallyStatsAndComeByPath) {
  const tally_tag tag = tally_tag_create("/snap/rows");
  std::vector<void*> blocks;
  for (int i = 0; i < 500; i++) blocks.push_back(tally_malloc(tag, 10 + i));
  const Snapshot snapshot;
  const tally_stats_t* row = snapshot.tag(tag);
  ASSERT_NE(row, nullptr);
  const tally_stats_t direct = stats_of(tag);
  EXPECT_EQ(memcmp(&row->own, &direct.own, sizeof row->own), 0);
  EXPECT_EQ(memcmp(&row->total, &direct.total, sizeof row->total), 0);
  EXPECT_STREQ(row->name, "/snap/rows");
  EXPECT_EQ(row->parent, tally_tag_find("/snap"));
  EXPECT_EQ(row->size, sizeof *row);
  for (uint64_t i = 1; i < snapshot.s->tag_count; i++) {
    EXPECT_LT(std::string(snapshot.s->tags[i - 1].name), std::string(snapshot.s->tags[i].name));
  }
  EXPECT_STREQ(snapshot.s->tags[0].name, "/");
  for (void* p : blocks) free(p);
}

TEST(Snapshot, OutlivesTheTagsAndBlocksItDescribes) {
  const tally_tag tag = tally_tag_create("/snap/gone");
  void* p = tally_malloc(tag, 100);
  const Snapshot snapshot;
  free(p);
  tally_tag_retire(tag);
  for (int i = 0; i < 100; i++)
    tally_tag_retire(tally_tag_create(("/snap/other" + std::to_string(i)).c_str()));
  const tally_stats_t* row = snapshot.tag(tag);
  ASSERT_NE(row, nullptr);
  EXPECT_STREQ(row->name, "/snap/gone");
  EXPECT_EQ(row->own.live_blocks, 1u);
}

TEST(Snapshot, TheProcessIsTheSumOfItsTags) {
  std::vector<void*> blocks;
  for (int i = 0; i < 2000; i++) blocks.push_back(malloc(i * 10));
  const Snapshot snapshot;
  const tally_process_stats_t& process = snapshot.s->process;
  uint64_t live = 0, footprint = 0;
  for (uint64_t i = 0; i < snapshot.s->tag_count; i++) {
    live += snapshot.s->tags[i].own.live_bytes;
    footprint += snapshot.s->tags[i].own.footprint_bytes;
  }
  EXPECT_EQ(process.live_bytes, live);
  EXPECT_EQ(process.footprint_bytes, footprint);
  EXPECT_EQ(process.metadata_bytes, snapshot.tag(tally_tag_find("/tally"))->own.footprint_bytes);
  EXPECT_GE(process.mapped_bytes, process.footprint_bytes);
  const size_t rss = rss_bytes();
  EXPECT_LE(process.rss_bytes, rss + 2 * kMiB);
  EXPECT_GE(process.rss_bytes + 2 * kMiB, rss);
  EXPECT_EQ(snapshot.tag(TALLY_TAG_ROOT)->total.live_bytes, live)
      << "the root's total is everything";
  for (void* p : blocks) free(p);
}

// A tag's live bytes are its classes' live blocks times their size, and its large blocks.
void expect_classes_add_up(const tally_snapshot_t& snapshot) {
  struct Sum {
    uint64_t live_bytes = 0, live_blocks = 0, footprint = 0;
  };
  std::map<uint32_t, Sum> sums;
  for (uint64_t i = 0; i < snapshot.class_count; i++) {
    const tally_class_stats_t& c = snapshot.classes[i];
    EXPECT_GT(c.slabs, 0u);
    EXPECT_LE(c.live_blocks, c.capacity_blocks);
    EXPECT_LE(c.capacity_blocks * c.block_size, c.footprint_bytes);
    Sum& sum = sums[c.tag];
    sum.live_bytes += c.live_blocks * c.block_size;
    sum.live_blocks += c.live_blocks;
    sum.footprint += c.footprint_bytes;
  }
  for (uint64_t i = 0; i < snapshot.tag_count; i++) {
    const tally_stats_t& tag = snapshot.tags[i];
    if (std::string(tag.name) == "/tally") continue;  // its tables are not in classes
    const Sum& sum = sums[tag.id];
    EXPECT_EQ(tag.own.live_bytes, sum.live_bytes + tag.own.large_live_bytes) << tag.name;
    EXPECT_EQ(tag.own.live_blocks, sum.live_blocks + tag.own.large_live_blocks) << tag.name;
    EXPECT_LE(sum.footprint + tag.own.large_live_bytes, tag.own.footprint_bytes) << tag.name;
  }
}

TEST(Snapshot, ClassesAddUpToTags) {
  const tally_tag a = tally_tag_create("/classes/a"), b = tally_tag_create("/classes/b");
  std::vector<void*> blocks;
  Random random(5);
  for (int i = 0; i < 20000; i++) {
    blocks.push_back(tally_malloc(i % 2 ? a : b, random.below(i % 100 ? 2000 : 2 * kMiB)));
    if (i % 3 == 0) {
      std::swap(blocks[random.below(blocks.size())], blocks.back());
      free(blocks.back());
      blocks.pop_back();
    }
  }
  {
    const Snapshot snapshot;
    expect_classes_add_up(*snapshot.s);
    for (uint64_t i = 1; i < snapshot.s->class_count; i++) {
      const auto &before = snapshot.s->classes[i - 1], &here = snapshot.s->classes[i];
      const int by_path = strcmp(snapshot.tag(before.tag)->name, snapshot.tag(here.tag)->name);
      EXPECT_TRUE(by_path < 0 || (by_path == 0 && before.block_size < here.block_size)) << i;
    }
  }
  for (void* p : blocks) free(p);
  const Snapshot after;
  expect_classes_add_up(*after.s);
}

TEST(Snapshot, AClassShowsHowFullItsSlabsAre) {
  if (getenv("TALLY_GUARD") != nullptr) GTEST_SKIP() << "guarded blocks are of no class";
  const tally_tag tag = tally_tag_create("/sparse");
  std::vector<void*> blocks;
  for (int i = 0; i < 10000; i++) blocks.push_back(tally_malloc(tag, 128));
  for (int i = 0; i < 10000; i++) {
    if (i % 10) free(blocks[i]);
  }
  const Snapshot snapshot;
  const tally_class_stats_t* found = nullptr;
  for (uint64_t i = 0; i < snapshot.s->class_count; i++) {
    if (snapshot.s->classes[i].tag == tag) found = &snapshot.s->classes[i];
  }
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->block_size, 128u);
  EXPECT_EQ(found->live_blocks, 1000u);
  EXPECT_GE(found->capacity_blocks, 10000u) << "every slab is pinned";
  for (int i = 0; i < 10000; i += 10) free(blocks[i]);
}

using Render = size_t (*)(char*, size_t);

class Rendering : public testing::TestWithParam<Render> {};

TEST_P(Rendering, WritesAsSnprintfDoes) {
  const Render render = GetParam();
  errno = 7777;
  const size_t length = render(nullptr, 0);
  ASSERT_GT(length, 200u);
  std::vector<char> whole(length + 4096, '#');  // figures may have got a digit longer
  const size_t written = render(whole.data(), whole.size());
  ASSERT_LT(written, whole.size());
  EXPECT_EQ(errno, 7777);
  EXPECT_EQ(strlen(whole.data()), written);
  EXPECT_EQ(whole[written + 1], '#');
  for (size_t n : {size_t{1}, size_t{2}, size_t{10}, size_t{100}, written / 2}) {
    std::vector<char> part(n + 64, '#');
    const size_t would = render(part.data(), n);
    EXPECT_GT(would, n);
    EXPECT_EQ(strlen(part.data()), n - 1) << n;
    EXPECT_EQ(std::count(part.begin() + static_cast<ptrdiff_t>(n), part.end(), '#'), 64) << n;
    const size_t same = std::min<size_t>(n - 1, 10);  // further on are figures that move
    EXPECT_EQ(memcmp(part.data(), whole.data(), same), 0) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Rendering,
                         testing::Values(&tally_snapshot_json, &tally_snapshot_text));

std::string written_to_file(int (*write_to)(int)) {
  FILE* file = std::tmpfile();
  EXPECT_EQ(write_to(fileno(file)), 0);
  std::string text;
  std::rewind(file);
  char buffer[4096];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, n);
  std::fclose(file);
  return text;
}

TEST(SnapshotJson, ToAFileDescriptor) {
  const std::string json = written_to_file(&tally_snapshot_json_fd);
  ASSERT_FALSE(json.empty());
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json[json.find_last_not_of("\n")], '}');
  EXPECT_EQ(json.find('\0'), std::string::npos);
}

TEST(SnapshotText, ShowsEveryTag) {
  void* p = tally_malloc(tally_tag_create("/shown/in/text"), 12345);
  const std::string text = written_to_file(&tally_snapshot_text_fd);
  EXPECT_NE(text.find("/shown/in/text"), std::string::npos) << text;
  EXPECT_NE(text.find("/tally"), std::string::npos) << text;
  EXPECT_EQ(text.find('\0'), std::string::npos);
  free(p);
}

TEST(SnapshotFd, FailsAsWriteDoes) {
  for (auto write_to : {&tally_snapshot_json_fd, &tally_snapshot_text_fd}) {
    errno = 0;
    EXPECT_EQ(write_to(-1), -1);
    EXPECT_EQ(errno, EBADF);
    const int full = open("/dev/full", O_WRONLY);
    errno = 0;
    EXPECT_EQ(write_to(full), -1);
    EXPECT_EQ(errno, ENOSPC);
    close(full);
  }
}

// A pipe takes a few bytes at a time; the whole must arrive nevertheless.
TEST(SnapshotFd, SurvivesShortWrites) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  for (int i = 0; i < 400; i++) {
    void* p = tally_malloc(tally_tag_create(("/pipe/" + std::to_string(i)).c_str()), 10);
    EXPECT_NE(p, nullptr);
  }
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    _exit(tally_snapshot_json_fd(ends[1]) == 0 ? 0 : 1);
  }
  close(ends[1]);
  std::string json;
  char buffer[777];
  ssize_t n;
  while ((n = read(ends[0], buffer, sizeof buffer)) > 0)
    json.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_GT(json.size(), size_t{65536}) << "more than a pipe holds";
  EXPECT_NE(json.find("/pipe/399"), std::string::npos);
  EXPECT_EQ(json[json.find_last_not_of("\n")], '}');
}

}  // namespace
