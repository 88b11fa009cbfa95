#include "stats/render.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// A snapshot by hand, so that each digit of the output is known.
class RenderTest : public testing::Test {
 protected:
  RenderTest() {
    tags_[0] = {};
    tags_[0].id = 0;
    tags_[0].parent = TALLY_TAG_NONE;
    tags_[0].name = "/";
    tags_[0].own = {.live_bytes = 1536,
                    .live_blocks = 3,
                    .footprint_bytes = 4096,
                    .peak_footprint_bytes = 8192,
                    .alloc_count = 10,
                    .free_count = 7,
                    .requested_bytes = 1023,
                    .large_live_bytes = 0,
                    .large_live_blocks = 0,
                    .charged_bytes = 7};
    tags_[0].soft_limit_bytes = tags_[0].hard_limit_bytes = TALLY_LIMIT_NONE;
    tags_[1] = tags_[0];
    tags_[1].id = 5;
    tags_[1].parent = 0;
    tags_[1].name = "/a\"b\\c\xc3\xa4";
    tags_[1].own.live_bytes = UINT64_MAX;
    tags_[1].own.large_live_bytes = 65536;
    tags_[1].own.large_live_blocks = 1;
    class_ = {.tag = 5,
              .block_size = 48,
              .live_blocks = 2,
              .capacity_blocks = 85,
              .slabs = 1,
              .footprint_bytes = 4096,
              .alloc_count = 9,
              .requested_bytes = 400,
              .empty_bytes = 0,
              .sparse_slabs = 1,
              .sparse_free_bytes = 3984,
              .fill = {1}};
    snapshot_ = {};
    snapshot_.size = sizeof snapshot_;
    snapshot_.version = 1;
    snapshot_.pid = 42;
    snapshot_.backend = "os";
    snapshot_.process = {.rss_bytes = 1,
                         .live_bytes = 2,
                         .footprint_bytes = 3,
                         .mapped_bytes = 1048576,
                         .metadata_bytes = 5,
                         .foreign_frees = 6,
                         .backend_bytes = 7,
                         .backend_chunks = 8,
                         .backend_surplus_bytes = 9};
    snapshot_.tag_count = 2;
    snapshot_.tags = tags_;
    snapshot_.class_count = 1;
    snapshot_.classes = &class_;
  }
  std::string rendered(Render render) {
    char buffer[8192];
    TextWriter out(buffer, sizeof buffer);
    render(snapshot_, out);
    EXPECT_EQ(out.used(), out.length());
    return {buffer, out.used()};
  }

  void limit_second() {
    tags_[1].total.footprint_bytes = 65536;
    tags_[1].soft_limit_bytes = 4096;
    tags_[1].hard_limit_bytes = 8192;
    tags_[1].pressure = TALLY_PRESSURE_HARD;
    tags_[1].pressure_ms = 12;
    tags_[1].pressure_count = 3;
    tags_[1].refused_count = 4;
    tags_[1].waited_count = 5;
  }

  tally_stats_t tags_[2];
  tally_class_stats_t class_;
  tally_snapshot_t snapshot_;
};

TEST_F(RenderTest, Json) {
  limit_second();
  EXPECT_EQ(
      rendered(render_json),
      "{\"version\":1,\"pid\":42,\"backend\":\"os\",\"process\":{\"rss_bytes\":1,\"live_bytes\":2,"
      "\"footprint_bytes\":3,\"mapped_bytes\":1048576,\"metadata_bytes\":5,\"foreign_frees\":6,"
      "\"backend_bytes\":7,\"backend_chunks\":8,\"backend_surplus_bytes\":9},"
      "\"tags\":[\n"
      "{\"id\":0,\"name\":\"/\",\"parent\":null,\"live_bytes\":1536,\"live_blocks\":3,"
      "\"footprint_bytes\":4096,\"peak_footprint_bytes\":8192,\"alloc_count\":10,\"free_count\":7,"
      "\"requested_bytes\":1023,\"large_live_bytes\":0,\"large_live_blocks\":0,\"charged_bytes\":7,"
      "\"held_bytes\":0,\"soft_limit_bytes\":null,\"hard_limit_bytes\":null,"
      "\"pressure\":\"normal\",\"pressure_ms\":0,\"pressure_count\":0,\"refused_count\":0,"
      "\"waited_count\":0},\n"
      "{\"id\":5,\"name\":\"/a\\\"b\\\\c\xc3\xa4\",\"parent\":0,"
      "\"live_bytes\":18446744073709551615,\"live_blocks\":3,"
      "\"footprint_bytes\":4096,\"peak_footprint_bytes\":8192,\"alloc_count\":10,\"free_count\":7,"
      "\"requested_bytes\":1023,\"large_live_bytes\":65536,\"large_live_blocks\":1,\"charged_"
      "bytes\":7,"
      "\"held_bytes\":65536,\"soft_limit_bytes\":4096,\"hard_limit_bytes\":8192,"
      "\"pressure\":\"hard\",\"pressure_ms\":12,\"pressure_count\":3,\"refused_count\":4,"
      "\"waited_count\":5}],\"classes\":["
      "\n"
      "{\"tag\":5,\"size\":48,\"live_blocks\":2,\"capacity_blocks\":85,\"slabs\":1,"
      "\"footprint_bytes\":4096,\"alloc_count\":9,\"requested_bytes\":400,\"empty_bytes\":0,"
      "\"sparse_slabs\":1,\"sparse_free_bytes\":3984,\"fill\":[1,0,0,0,0,0,0,0,0,0]}]}\n");
}

TEST_F(RenderTest, NamesThatAreNoUtf8AreMadeIt) {
  struct {
    const char* name;
    const char* json;
  } cases[] = {{"/\xff", "/\\ufffd"},
               {"/\xc3", "/\\ufffd"},
               {"/\xc3\xa4\xa4", "/\xc3\xa4\\ufffd"},
               {"/\xc0\x80", "/\\ufffd\\ufffd"},
               {"/\xe2\x82\xac", "/\xe2\x82\xac"},
               {"/\xe2\x82", "/\\ufffd\\ufffd"},
               {"/\xed\xa0\x80", "/\\ufffd\\ufffd\\ufffd"},
               {"/\xf0\x9f\x98\x80", "/\xf0\x9f\x98\x80"},
               {"/\xf4\x90\x80\x80", "/\\ufffd\\ufffd\\ufffd\\ufffd"}};
  for (const auto& one : cases) {
    tags_[1].name = one.name;
    EXPECT_NE(rendered(render_json).find(std::string("\"name\":\"") + one.json + "\","),
              std::string::npos)
        << one.json;
  }
}

TEST_F(RenderTest, JsonOfNothing) {
  snapshot_.tag_count = snapshot_.class_count = 0;
  std::string text = rendered(render_json);
  EXPECT_NE(text.find("\"tags\":[],\"classes\":[]}"), std::string::npos);
}

TEST_F(RenderTest, TheTableIsAligned) {
  tags_[1].own.live_bytes = 3 * 1024 * 1024 + 512 * 1024;
  std::string text = rendered(render_table);
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  ASSERT_EQ(lines.size(), 6U);
  EXPECT_EQ(lines[1].substr(0, 3), "TAG");
  EXPECT_NE(lines[2].find("1.50 KiB"), std::string::npos);
  EXPECT_NE(lines[3].find("3.50 MiB"), std::string::npos);
  EXPECT_NE(lines[2].find("1023 B"), std::string::npos);
  EXPECT_EQ(lines[4].substr(0, 5), "total");
  EXPECT_NE(lines[4].find(" 20 "), std::string::npos) << "allocations of both";
  EXPECT_NE(lines[5].find("1.00 MiB"), std::string::npos);
}

TEST_F(RenderTest, TheSizesThatTakeMostComeFirst) {
  tally_class_stats_t classes[12];
  for (unsigned i = 0; i < 12; ++i) {
    classes[i] = {};
    classes[i].tag = 5;
    classes[i].block_size = 16 * (i + 1);
    classes[i].live_blocks = i;
    classes[i].capacity_blocks = 100;
    classes[i].slabs = 1;
    classes[i].footprint_bytes = uint64_t{1024} * (i % 6 + 1);
  }
  snapshot_.classes = classes;
  snapshot_.class_count = 12;
  std::string text = rendered(render_classes);
  EXPECT_EQ(text.find("the sizes that take most:\n"
                      "  64.0 KiB in large blocks of /a\"b\\c\xc3\xa4, 1 live\n"
                      "  6.00 KiB in blocks of 96 bytes of /a\"b\\c\xc3\xa4, 5 of 100 live\n"
                      "  6.00 KiB in blocks of 192 bytes of /a\"b\\c\xc3\xa4, 11 of 100 live\n"
                      "  5.00 KiB in blocks of 80 bytes of "),
            0U)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11) << "ten of them";
}

TEST_F(RenderTest, BytesHaveThreeDigits) {
  struct {
    uint64_t bytes;
    const char* text;
  } cases[] = {{0, " 0 B"},
               {1023, " 1023 B"},
               {1024, " 1.00 KiB"},
               {1024 * 1024 - 1, " 1023 KiB"},
               {10 * 1024 + 512, " 10.5 KiB"},
               {uint64_t{5} << 30, " 5.00 GiB"},
               {uint64_t{3} << 40, " 3.00 TiB"},
               {uint64_t{7} << 50, " 7.00 PiB"},
               {UINT64_MAX, " 15.9 EiB"}};
  snapshot_.tag_count = 1;
  for (const auto& one : cases) {
    tags_[0].own.live_bytes = one.bytes;
    std::string text = rendered(render_table);
    EXPECT_NE(text.find(one.text), std::string::npos) << one.text << "\n" << text;
  }
}

// The same dump and the same lines as in tests/tool/tally_dump_test.py.
TEST_F(RenderTest, TheTableIsThatOfTallyDump) {
  constexpr uint64_t kMiB = 1 << 20;
  tally_stats_t tags[4] = {};
  tags[0].name = "/cache/blocks";
  tags[0].own = {23 * kMiB, 5888, 30 * kMiB, 31 * kMiB, 6000, 112, 24 * kMiB, 0, 0, 0};
  tags[1].name = "/";
  tags[1].own = {kMiB, 100, 2 * kMiB, 3 * kMiB, 1000, 900, 9 * kMiB, 0, 0, 0};
  tags[2].name = "/tally";
  tags[2].own = {kMiB / 2, 3, kMiB / 2, kMiB / 2, 3, 0, kMiB / 2, 0, 0, 0};
  tags[3].name = "/cache";
  tags[3].own = {0, 0, 0, 65536, 7, 7, 5000, 0, 0, 0};
  for (tally_stats_t& tag : tags) tag.soft_limit_bytes = tag.hard_limit_bytes = TALLY_LIMIT_NONE;
  tags[0].hard_limit_bytes = 32 * kMiB;
  tags[0].total.footprint_bytes = 30 * kMiB;
  tags[0].refused_count = 2;
  tags[3].soft_limit_bytes = 16 * kMiB;
  tags[3].total.footprint_bytes = 30 * kMiB;
  tags[3].pressure = TALLY_PRESSURE_SOFT;
  tags[3].pressure_ms = 250;
  tags[3].waited_count = 1;
  snapshot_.pid = 4711;
  snapshot_.tag_count = 4;
  snapshot_.tags = tags;
  snapshot_.process.rss_bytes = 40 * kMiB;
  snapshot_.process.mapped_bytes = 64 * kMiB;
  snapshot_.process.metadata_bytes = kMiB / 2;
  snapshot_.process.foreign_frees = 3;
  snapshot_.process.backend_surplus_bytes = kMiB;
  EXPECT_EQ(
      rendered(render_table),
      "tally: process 4711, backend os: where the memory is\n"
      "TAG                LIVE  BLOCKS  FOOTPRINT      PEAK  ALLOCS  FREES  REQUESTED\n"
      "/cache/blocks  23.0 MiB    5888   30.0 MiB  31.0 MiB    6000    112   24.0 MiB\n"
      "/              1.00 MiB     100   2.00 MiB  3.00 MiB    1000    900   9.00 MiB\n"
      "/tally          512 KiB       3    512 KiB   512 KiB       3      0    512 KiB\n"
      "/cache            0 B         0      0 B    64.0 KiB       7      7   4.88 KiB\n"
      "total          24.5 MiB    5991   32.5 MiB              7010   1019   33.5 MiB\n"
      "limit of /cache/blocks: holds 30.0 MiB of 32.0 MiB, pressure normal, in all 0 ms, "
      "refused 2\n"
      "limit of /cache: holds 30.0 MiB, soft limit 16.0 MiB, pressure soft, in all 250 ms, "
      "waited 1\n"
      "resident 40.0 MiB, mapped 64.0 MiB, metadata 512 KiB, the backend holds besides 1.00 MiB, "
      "foreign frees 3\n");
}

TEST_F(RenderTest, NoLineEndsInBlanks) {
  for (uint64_t bytes : {0, 1000, 1024}) {
    tags_[0].own.requested_bytes = tags_[1].own.requested_bytes = bytes;
    snapshot_.process.metadata_bytes = snapshot_.process.mapped_bytes = bytes;
    snapshot_.process.foreign_frees = 0;
    snapshot_.process.backend_surplus_bytes = 0;
    std::string text = rendered(render_table);
    EXPECT_EQ(text.find(" \n"), std::string::npos) << text;
    EXPECT_EQ(text.find(" ,"), std::string::npos) << text;
  }
}

TEST_F(RenderTest, NamesArePaddedByWhatTheyShow) {
  tags_[1].own = tags_[0].own;
  for (const char* name :
       {"/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80tag", "/\xff\xff\xfftag", "/abctag"}) {
    tags_[1].name = name;
    std::string text = rendered(render_table);
    EXPECT_NE(text.find(std::string(name) + "  1.50 KiB"), std::string::npos) << text;
    EXPECT_NE(text.find("\n/        1.50 KiB"), std::string::npos) << text;
  }
}

TEST_F(RenderTest, LongNamesPushTheirRowOnly) {
  std::string name = "/" + std::string(200, 'x');
  tags_[1].name = name.c_str();
  std::string text = rendered(render_table);
  EXPECT_NE(text.find(name + " "), std::string::npos);
}

TEST(Render, BuffersAreCutAsSnprintfDoes) {
  for (Render render : {render_json, render_table}) {
    char whole[65536];
    size_t length = render_to_buffer(render, whole, sizeof whole);
    ASSERT_GT(length, 100U);
    ASSERT_EQ(strlen(whole), length);
    for (size_t capacity : {size_t{1}, size_t{2}, size_t{50}}) {
      char part[64];
      memset(part, '#', sizeof part);
      EXPECT_GT(render_to_buffer(render, part, capacity), 100U);
      EXPECT_EQ(strlen(part), capacity - 1);
      EXPECT_EQ(memcmp(part, whole, capacity > 20 ? 20 : capacity - 1), 0);
      EXPECT_EQ(part[capacity], '#');
    }
    EXPECT_GT(render_to_buffer(render, nullptr, 0), 100U);
  }
}

TEST(Render, ToADescriptor) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::string text;
  std::thread reader([&] {
    char buffer[1000];
    for (ssize_t n; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<size_t>(n));
  });
  for (int i = 0; i < 200; ++i) make_tag(("/render/" + std::to_string(i)).c_str());
  EXPECT_EQ(render_to_fd(render_json, pipe_ends[1]), 0);
  close(pipe_ends[1]);
  reader.join();
  close(pipe_ends[0]);
  EXPECT_EQ(text.substr(0, 2), "{\"");
  EXPECT_EQ(text.substr(text.size() - 3), "]}\n");
  EXPECT_NE(text.find("\"/render/199\""), std::string::npos);
  EXPECT_EQ(render_to_fd(render_json, -1), EBADF);
  int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_EQ(render_to_fd(render_table, full), ENOSPC);
  close(full);
}

sigset_t only_pipe_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}
bool pipe_signal_waits() {
  sigset_t waiting;
  sigpending(&waiting);
  return sigismember(&waiting, SIGPIPE) == 1;
}

TEST(Render, APipeThatNobodyReadsIsAnErrorAndNoSignal) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  close(pipe_ends[0]);
  sigset_t set = only_pipe_signal(), mask;
  EXPECT_EQ(render_to_fd(render_table, pipe_ends[1]), EPIPE);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, &mask), 0);
  EXPECT_EQ(sigismember(&mask, SIGPIPE), 0);
  EXPECT_EQ(render_to_fd(render_table, pipe_ends[1]), EPIPE);
  EXPECT_FALSE(pipe_signal_waits());
  // One that the program waits for is left to it.
  raise(SIGPIPE);
  EXPECT_EQ(render_to_fd(render_table, pipe_ends[1]), EPIPE);
  EXPECT_TRUE(pipe_signal_waits());
  timespec now = {};
  EXPECT_EQ(sigtimedwait(&set, nullptr, &now), SIGPIPE);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  close(pipe_ends[1]);
}

}  // namespace
}  // namespace tally::unit
