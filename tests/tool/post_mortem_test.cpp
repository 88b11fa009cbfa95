#include "post_mortem.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "failure.h"
#include "record_file.hpp"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;
using test::RecordFile;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kDeath = 1'700'000'000'340'000'000;  // 340 ms after the frame

class PostMortem : public testing::Test {
 protected:
  PostMortem() {
    folder_ = mkdtemp(folder_.data());
    file_.head.created = kDeath - 3600 * kSecond;
    file_.frame.ledger.rss = 100 * kMiB;
    file_.frame.ledger.live = 90 * kMiB;
    root_ = file_.add_tag("/", kMiB, 2 * kMiB).name;
    cache_ = file_.add_tag("/cache", 60 * kMiB, 64 * kMiB).name;
    file_.add_tag("/cache/blocks", 20 * kMiB, 21 * kMiB);
    file_.tags[1].total.footprint_bytes = 85 * kMiB;
    file_.tags[0].total.footprint_bytes = 87 * kMiB;
  }
  ~PostMortem() override { fs::remove_all(folder_); }

  // Of some seconds before the frame.
  void add_point(int64_t seconds, std::vector<record::PointTag> tags) {
    record::Point point = {};
    point.time = file_.frame.time - seconds * kSecond;
    point.tag_count = static_cast<uint32_t>(tags.size());
    std::copy(tags.begin(), tags.end(), point.tags);
    add(&point, record::kAtRecent, ++points_);
  }

  void add_event(int64_t seconds, record::Event event) {
    event.time = file_.frame.time - seconds * kSecond;
    add(&event, record::kAtEvents, ++events_);
  }

  std::string text(int64_t started = kDeath - 3601 * kSecond) {
    std::string bytes = file_.bytes();
    for (const auto& [offset, piece] : pieces_) RecordFile::put(&bytes, offset, piece);
    RecordFile::write(path(), bytes);
    try {
      return post_mortem_of(path(), {4711, SIGKILL, started, kDeath, 0});
    } catch (const Failure& failure) {
      return failure.what();
    }
  }

  std::string path() const { return folder_ + "/4711.tally"; }

  RecordFile file_;
  uint32_t root_, cache_;

 private:
  template <class Piece>
  void add(Piece* piece, uint64_t ring, uint64_t sequence) {
    piece->seal.sequence = sequence;
    RecordFile::seal(piece, sizeof *piece, sequence);
    pieces_.emplace_back(ring + sequence * sizeof *piece,
                         std::string(reinterpret_cast<const char*>(piece), sizeof *piece));
  }

  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
  std::vector<std::pair<uint64_t, std::string>> pieces_;
  uint64_t points_ = 0, events_ = 0;
};

TEST_F(PostMortem, TellsTheLargestTagsAndTheLedger) {
  EXPECT_EQ(text(),
            "as of 340 ms before: RSS 100 MiB = live blocks 90.0 MiB + other 10.0 MiB\n"
            "TAG                LIVE  FOOTPRINT  WITH ALL BELOW\n"
            "/cache         60.0 MiB   64.0 MiB        85.0 MiB\n"
            "/cache/blocks  20.0 MiB   21.0 MiB        21.0 MiB\n"
            "/              1.00 MiB   2.00 MiB        87.0 MiB\n");
}

TEST_F(PostMortem, TellsWhereToLookIfMostIsNotOfTheHeap) {
  file_.frame.ledger.live = 49 * kMiB;
  EXPECT_NE(text().find(
                "= live blocks 49.0 MiB + other 51.0 MiB\n"
                "most is \"other\", no heap of Tally's: maybe of an allocator that the program has "
                "inside; `tally doctor PROGRAM` tells of one (python3: PYTHONMALLOC=malloc)\nTAG "),
            std::string::npos)
      << text();
  file_.frame.ledger.live = 50 * kMiB;
  EXPECT_EQ(text().find("most is"), std::string::npos) << text();
}

TEST_F(PostMortem, TellsWhatGrewInTheLastMinutes) {
  add_point(900, {});  // too long ago
  add_point(240, {{cache_, 0, 24 * 1024}, {root_, 0, 3 * 1024}});
  add_point(10, {{cache_, 0, 60 * 1024}});
  EXPECT_EQ(text(),
            "as of 340 ms before: RSS 100 MiB = live blocks 90.0 MiB + other 10.0 MiB\n"
            "TAG                LIVE  FOOTPRINT  WITH ALL BELOW  GREW IN 4 min\n"
            "/cache         60.0 MiB   64.0 MiB        85.0 MiB       40.0 MiB\n"
            "/cache/blocks  20.0 MiB   21.0 MiB        21.0 MiB       21.0 MiB\n"
            "/              1.00 MiB   2.00 MiB        87.0 MiB      -1.00 MiB\n");
}

TEST_F(PostMortem, TellsTheLastEventsAtLimits) {
  using record::EventKind;
  constexpr uint64_t kNone = TALLY_LIMIT_NONE;
  add_event(99, {{}, 0, EventKind::kSoft, 0, 0, 1, 1, kNone, 0, "/"});  // the sixth last
  add_event(60, {{}, 0, EventKind::kSoft, 0, 0, 50 * kMiB, 48 * kMiB, 64 * kMiB, 0, "/cache"});
  add_event(30, {{}, 0, EventKind::kLimitSet, 0, 0, 50 * kMiB, kNone, 64 * kMiB, 0, "/cache"});
  add_event(20, {{}, 0, EventKind::kWaits, 0, kMiB, 63 * kMiB, kNone, 64 * kMiB, 0, "/cache"});
  add_event(10, {{}, 0, EventKind::kFailed, 0, 2 * kMiB, 64 * kMiB, kNone, 64 * kMiB, 0, "/cache"});
  add_event(0, {{}, 0, EventKind::kAborts, 0, 3 * kMiB, 64 * kMiB, kNone, 64 * kMiB, 0, "/cache"});
  const std::string told = text();
  EXPECT_EQ(told.substr(told.find("limit, ")),
            "limit, 60 s before: /cache is above its soft limit: holds 50.0 MiB, limit 64.0 MiB, "
            "soft limit 48.0 MiB\n"
            "limit, 30 s before: /cache was limited from outside: holds 50.0 MiB, limit 64.0 MiB\n"
            "limit, 20 s before: /cache was refused 1.00 MiB for now: a thread waits: holds 63.0 "
            "MiB, limit 64.0 MiB\n"
            "limit, 10 s before: /cache was refused 2.00 MiB: holds 64.0 MiB, limit 64.0 MiB\n"
            "limit, 340 ms before: /cache was refused 3.00 MiB, which ends the program: holds 64.0 "
            "MiB, limit 64.0 MiB\n");
}

TEST_F(PostMortem, ShowsTenTags) {
  for (int i = 0; i < 12; ++i) file_.add_tag("/t" + std::to_string(i), 0, kMiB);
  const std::string told = text();
  EXPECT_NE(told.find("\n... and 5 smaller tags\n"), told.npos) << told;
}

TEST_F(PostMortem, IsOfThisProgramOnly) {
  EXPECT_EQ(text(file_.head.created + 1), path() + ": is of a process before it");
  fs::remove(path());
  try {
    post_mortem_of(path(), {4711, SIGKILL, 0, kDeath, 0});
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.what(), path() + ": No such file or directory");
  }
}

// Whether the line of how it ended names the kernel's OOM killer.
bool names_oom_killer(int signal, uint64_t oom_kills) {
  FILE* out = tmpfile();
  print_post_mortem({INT32_MAX, signal, 0, kDeath, oom_kills}, out);
  rewind(out);
  char line[256] = "";
  const char* read = fgets(line, sizeof line, out);
  fclose(out);
  return read != nullptr &&
         std::string_view(line).find("OOM killer was at work") != std::string_view::npos;
}

TEST_F(PostMortem, NamesTheOomKiller) {
  EXPECT_TRUE(names_oom_killer(SIGKILL, 1));
  EXPECT_FALSE(names_oom_killer(SIGKILL, 0));
  EXPECT_FALSE(names_oom_killer(SIGSEGV, 1));
}

}  // namespace
}  // namespace tally::tool
