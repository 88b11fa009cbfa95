#include "record_reader.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "dump_reader.h"
#include "failure.h"
#include "ledger_parts.h"
#include "record_file.hpp"
#include "stat_formats.h"
#include "summary.h"
#include "tag_tree.h"
#include "target.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;
using test::RecordFile;
using test::WriterLock;

class RecordReader : public testing::Test {
 protected:
  RecordReader() {
    folder_ = mkdtemp(folder_.data());
    path_ = folder_ + "/4711.tally";
    file_.add_tag("/", 1000, 4096);
    file_.add_tag("/cache", 0, 0);
    file_.add_tag("/cache/blocks", 64000, 65536);
    record::ClassRow row = {};
    row.tag = 2;
    row.block_size = 64;
    row.live_blocks = 1000;
    row.capacity_blocks = 1024;
    row.fill[9] = row.slabs = 1;
    file_.classes.push_back(row);
    file_.ranges.push_back({0x10000, 0x20000});
    file_.frame.ledger.rss = 1 << 20;
  }
  ~RecordReader() override { fs::remove_all(folder_); }

  void write(const std::string& bytes) const { RecordFile::write(path_, bytes); }

  // What it fails with; "" if it does not.
  std::string failure_of(const std::string& target) const {
    try {
      load(target);
      return "";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status(), kFailed);
      return failure.what();
    }
  }
  void fails(const std::string& bytes, const std::string& message) const {
    write(bytes);
    EXPECT_EQ(failure_of(path_), path_ + ": " + message);
  }

  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
  std::string path_;
  RecordFile file_;
};

void expect_whole(const Record& record) {
  ASSERT_EQ(record.tags().size(), 3u);
  EXPECT_EQ(record.name(record.tags()[2]), "/cache/blocks");
  EXPECT_EQ(record.tags()[2].own.live_bytes, 64000u);
  ASSERT_EQ(record.classes().size(), 1u);
  EXPECT_EQ(record.classes()[0].capacity_blocks, 1024u);
  ASSERT_EQ(record.ranges().size(), 1u);
  EXPECT_EQ(record.ranges()[0].end, 0x20000u);
  EXPECT_EQ(record.ledger().rss, 1u << 20);
}

TEST_F(RecordReader, ReadsAWholeFile) {
  for (uint64_t sequence : {1, 2}) {  // in either place
    write(file_.bytes(sequence));
    const Record record = load(path_);
    expect_whole(record);
    EXPECT_FALSE(record.is_live);
    EXPECT_FALSE(record.is_dump);
    EXPECT_EQ(command_of(record.head), "server --port 80");
    EXPECT_EQ(text_of(record.head.backend), "os");
    const TagIndex index(record);
    EXPECT_EQ(index.find(1), &record.tags()[1]);
    EXPECT_EQ(index.find(7), nullptr);
    EXPECT_EQ(&require_tag(record, "cache/blocks"), &record.tags()[2]);
    EXPECT_EQ(&require_tag(record, "/cache"), &record.tags()[1]);
  }
}

TEST_F(RecordReader, TellsWhichTagsThereAre) {
  write(file_.bytes());
  Record record = load(path_);
  try {
    require_tag(record, "cahce");
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.what(),
              path_ + ": no tag /cahce; those that there are: /, /cache, /cache/blocks");
  }
}

TEST_F(RecordReader, KnowsWhetherTheWriterLives) {
  write(file_.bytes());
  Reader reader(path_);
  EXPECT_FALSE(reader.is_live());
  {
    WriterLock lock(path_);
    EXPECT_TRUE(reader.is_live());
    EXPECT_TRUE(load(path_).is_live);
  }
  EXPECT_FALSE(reader.is_live());
}

TEST_F(RecordReader, TakesTheNewerFrameAndIfItIsTornTheOther) {
  std::string all = file_.bytes(4);
  file_.frame.ledger.rss = 5;
  const std::string newer = file_.frame_bytes(5);
  RecordFile::put(&all, record::kAtFrame[1], newer);
  write(all);
  EXPECT_EQ(load(path_).ledger().rss, 5u);
  // Whatever part of it was not written.
  for (size_t at = 0; at < newer.size(); at += 8) {
    std::string torn = all;
    torn[record::kAtFrame[1] + at] ^= 1;
    write(torn);
    ASSERT_EQ(load(path_).ledger().rss, 1u << 20) << at;
  }
}

TEST_F(RecordReader, ReadsAgainWhatItRead) {
  write(file_.bytes(1));
  Reader reader(path_);
  Record record = reader.read();
  file_.add_tag("/new", 1, 4096);
  write(file_.bytes(2));
  reader.read(&record);
  ASSERT_EQ(record.tags().size(), 4u);
  EXPECT_EQ(record.name(record.tags()[3]), "/new");
  file_.tags.pop_back();
  write(file_.bytes(3));
  reader.read(&record);
  expect_whole(record);
}

TEST_F(RecordReader, SaysWhatIsWrongWithAFile) {
  EXPECT_EQ(failure_of(path_), path_ + ": No such file or directory");
  EXPECT_EQ(failure_of(folder_), folder_ + ": not a file");
  const std::string pipe = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(failure_of(pipe), pipe + ": not a file");
  fails("#!/bin/sh\nexit 0\n", "neither a record of Tally's nor its JSON");
  fails("", "empty: its process has only just started, or died as it did");
  fails(std::string(record::kFileBytes, 0),
        "empty: its process has only just started, or died as it did");

  std::string other = file_.bytes();
  other[offsetof(record::Head, version)] = 7;
  const std::string version = std::to_string(record::kVersion);
  fails(other, "a record of version 7; this tally reads version " + version +
                   ": use the one that came with the library");
  other = file_.bytes();
  other[offsetof(record::Head, pid)] ^= 1;
  fails(other, "damaged: its head is not what was written");
}

TEST_F(RecordReader, SaysWhereAFileIsCutShort) {
  const std::string all = file_.bytes();
  for (uint64_t end : {sizeof(record::Head) - 1, record::kAtFrame[0], record::kAtFrame[1] + 100,
                       record::kAtNames, record::kAtRecent, record::kAtMinutes, record::kAtEvents,
                       record::kAtRequest, record::kAtReply, record::kFileBytes - 1}) {
    fails(all.substr(0, end), "cut short: it has " + std::to_string(end) + " bytes, a record has " +
                                  std::to_string(record::kFileBytes));
  }
  // And when that happens as it is read.
  write(all);
  Reader reader(path_);
  const Record whole = reader.read();
  for (uint64_t end : {uint64_t{0}, uint64_t{100}, record::kAtFrame[1] + 300, record::kAtNames}) {
    fs::resize_file(path_, end);
    EXPECT_THROW(reader.read(), Failure);
    EXPECT_THROW(reader.points(Reader::Ring::kRecent, whole), Failure);
    EXPECT_THROW(reader.events(), Failure);
    fs::resize_file(path_, record::kFileBytes);
  }
}

TEST_F(RecordReader, SaysWhyThereIsNoFrame) {
  std::string none = file_.bytes();
  none.replace(record::kAtFrame[1], sizeof(record::FrameHead),
               std::string(sizeof(record::FrameHead), 0));
  fails(none, "no frame: process 4711 ended before it wrote one");
  {
    WriterLock lock(path_);
    EXPECT_EQ(failure_of(path_),
              path_ + ": no frame yet: process 4711 has only just started; try again");
  }
  std::string torn = file_.bytes();
  torn[record::kAtFrame[1] + 50] ^= 1;
  const std::string neither = "damaged: neither of its frames is whole, with its names";
  fails(torn, neither);
  // A name that was put there for a later one.
  std::string other = file_.bytes(6);
  other[record::kAtNames + record::kNamesBytes] = 6;
  write(other);
  EXPECT_EQ(failure_of(path_), "");
  other[record::kAtNames + record::kNamesBytes] = 7;
  fails(other, neither);
}

// A seal is no proof: whoever may write to the file can make one.
TEST_F(RecordReader, ChecksWhatASealVouchesFor) {
  auto sealed = [this](auto change) {
    std::string bytes = file_.frame_bytes(1);
    change(reinterpret_cast<record::FrameHead*>(bytes.data()));
    RecordFile::seal(bytes.data(), bytes.size(), 1);
    std::string all = file_.bytes();
    RecordFile::put(&all, record::kAtFrame[1], bytes);
    return all;
  };
  const std::string other_rows = "damaged: its frame has other rows than it says";
  fails(sealed([](record::FrameHead* head) { head->tag_count = UINT32_MAX; }), other_rows);
  fails(sealed([](record::FrameHead* head) { head->tag_count = 2; }), other_rows);
  fails(sealed([](record::FrameHead* head) { head->range_count += 1; }), other_rows);
  fails(sealed([](record::FrameHead* head) { head->names_bytes = record::kNamesBytes + 1; }),
        "damaged: more names than a record has");
  fails(sealed([](record::FrameHead* head) { head->names_bytes = 5; }),
        "damaged: the tag with the id 1 has no name");
  file_.tags[1].name = UINT32_MAX;
  fails(file_.bytes(), "damaged: the tag with the id 1 has no name");
  file_.tags[1].name = 3;  // inside a name
  fails(file_.bytes(), "damaged: the tag with the id 1 has no name");
  file_.tags[1].name = 2;
  file_.names.back() = 'x';  // no end
  fails(file_.bytes(), "damaged: the tag with the id 2 has no name");
}

TEST_F(RecordReader, ReadsRingsInTheirOrder) {
  std::string all = file_.bytes();
  auto put = [&all](uint64_t start, size_t count, auto entry, uint64_t sequence) {
    RecordFile::seal(&entry, sizeof entry, sequence);
    RecordFile::put(&all, start + sequence % count * sizeof entry,
                    {reinterpret_cast<const char*>(&entry), sizeof entry});
  };
  for (uint64_t sequence = 100; sequence < 100 + record::kRecentPoints; ++sequence) {
    record::Point point = {};
    point.rss = sequence * 10;
    point.frame = sequence == 400 ? 3 : 1;
    point.tag_count = sequence == 200 ? record::kPointTagsMax + 1 : 1;
    put(record::kAtRecent, record::kRecentPoints, point, sequence);
  }
  put(record::kAtMinutes, record::kMinutePoints, record::Point{}, 1);
  for (uint64_t sequence : {3, 4}) {
    record::Event event = {};
    event.kind = record::EventKind::kFailed;
    strcpy(event.tag, "/cache");
    put(record::kAtEvents, record::kEventsMax, event, sequence);
  }
  all[record::kAtRecent + 300 * sizeof(record::Point) + 20] ^= 1;  // torn
  write(all);

  Reader reader(path_);
  const Record record = reader.read();
  auto points = reader.points(Reader::Ring::kRecent, record);
  // That, the one with too many tags, and one of after the frame.
  ASSERT_EQ(points.size(), record::kRecentPoints - 3);
  EXPECT_EQ(points.front().rss, 1000u);
  EXPECT_EQ(points.back().rss, (99 + record::kRecentPoints) * 10);
  for (size_t i = 1; i < points.size(); ++i) EXPECT_LT(points[i - 1].rss, points[i].rss);
  EXPECT_EQ(reader.points(Reader::Ring::kMinutes, record).size(), 1u);
  auto events = reader.events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].seal.sequence, 4u);
  EXPECT_EQ(text_of(events[0].tag), "/cache");
  EXPECT_EQ(record.name(3), "");
  EXPECT_EQ(record.name(UINT32_MAX), "");
}

TEST_F(RecordReader, LeavesOutOfHistoryWhoseNameIsGone) {
  for (const char* path : {"/of/eleven", "/of/twelve"}) {
    file_.names.resize(file_.names.size() / record::kNameCell * record::kNameCell +
                       record::kNameCell);
    file_.add_tag(path, 0, 0);
  }
  std::string all = file_.bytes(12);
  const uint64_t twelve = 12;
  memcpy(
      &all[record::kAtNames + record::kNamesBytes + file_.tags.back().name / record::kNameCell * 8],
      &twelve, sizeof twelve);
  for (uint64_t frame : {11, 12}) {
    record::Point point = {};
    point.frame = frame;
    point.tag_count = 3;
    point.tags[0] = {file_.tags[4].name, 1, 1};
    point.tags[1] = {file_.tags[3].name, 2, 2};
    point.tags[2] = {file_.tags[4].name, 3, 3};
    RecordFile::seal(&point, sizeof point, frame);
    RecordFile::put(&all, record::kAtRecent + frame * sizeof point,
                    {reinterpret_cast<const char*>(&point), sizeof point});
  }
  write(all);
  Reader reader(path_);
  const Record record = reader.read();
  auto points = reader.points(Reader::Ring::kRecent, record);
  ASSERT_EQ(points.size(), 2u);
  ASSERT_EQ(points[0].tag_count, 1u);
  EXPECT_EQ(record.name(points[0].tags[0].name), "/of/eleven");
  EXPECT_EQ(points[0].tags[0].live_kib, 2u);
  ASSERT_EQ(points[1].tag_count, 3u);
  EXPECT_EQ(record.name(points[1].tags[2].name), "/of/twelve");
}

// Whatever is in the file, it is read or refused, soon. The parts that are scribbled over are
// sealed again now and then, so that the checks behind the seals are reached.
TEST_F(RecordReader, SurvivesWhateverIsInTheFile) {
  const std::string all = file_.bytes(2);
  const size_t frame_size = file_.frame_bytes(2).size();
  std::mt19937_64 random(6);
  write(all);
  size_t read = 0, refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string scribbled = all.substr(0, record::kAtFrame[0] + frame_size);
    std::string names = file_.names;
    for (uint64_t n = random() % 8; n != 0; --n) {
      scribbled[random() % scribbled.size()] = static_cast<char>(random());
      scribbled[record::kAtFrame[0] + random() % frame_size] = static_cast<char>(random());
      names[random() % names.size()] = static_cast<char>(random());
    }
    if (random() % 4 != 0) {
      RecordFile::seal(scribbled.data() + record::kAtFrame[0], frame_size, 2);
      RecordFile other = file_;
      memcpy(&other.head, scribbled.data(), sizeof other.head);
      other.head.file_bytes = record::kFileBytes;
      memcpy(&other.head, all.data(), offsetof(record::Head, checksum));
      RecordFile::put(&scribbled, 0, other.head_bytes());
    }
    File file(open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(pwrite(file.descriptor(), scribbled.data(), scribbled.size(), 0),
              ssize_t(scribbled.size()));
    ASSERT_EQ(pwrite(file.descriptor(), names.data(), names.size(), record::kAtNames),
              ssize_t(names.size()));
    try {
      const Record record = load(path_);
      const TagIndex index(record);
      for (const record::TagRow& tag : record.tags()) EXPECT_FALSE(record.name(tag).empty());
      for (const record::ClassRow& row : record.classes()) index.find(row.tag);
      EXPECT_LE(command_of(record.head).size(), sizeof record.head.command);
      if (round % 8 == 0) {  // and shown
        EXPECT_EQ(tag_tree(record).size(), record.tags().size());
        EXPECT_FALSE(heading(record).empty());
        EXPECT_FALSE(ledger_line(record).empty());
        EXPECT_FALSE(stat_as_json(record).empty());
        EXPECT_TRUE(as_open_metrics({&record, 1}, Ended::kWhole).ends_with("# EOF\n"));
      }
      ++read;
    } catch (const Failure&) {
      ++refused;
    }
  }
  EXPECT_GT(read, 1000u);
  EXPECT_GT(refused, 1000u);
}

// A writer as the library's, but that it writes in many pieces, so that much is seen torn. One tag
// is another each time, whose name is put where that of the frame before the last was.
class RestlessWriter {
 public:
  RestlessWriter(const std::string& path, RecordFile* record)
      : lock_(path), file_(open(path.c_str(), O_WRONLY | O_CLOEXEC)), record_(record) {}

  static std::string name_of(uint64_t sequence) {
    return "/" + std::string(70, char('a' + sequence % 26)) + std::to_string(sequence);
  }
  void publish(uint64_t sequence) {
    const uint64_t cell = 4 + sequence % 2 * 4;
    const uint64_t since[] = {sequence, sequence, sequence, sequence};
    put(record::kAtNames + record::kNamesBytes + cell * 8, since, sizeof since);
    const std::string name = name_of(sequence);
    put(record::kAtNames + cell * record::kNameCell, name.c_str(), name.size() + 1);
    record_->tags[1].name = uint32_t(cell * record::kNameCell);
    for (record::TagRow& tag : record_->tags) tag.own.alloc_count = sequence;
    const std::string bytes = record_->frame_bytes(sequence);
    put(record::kAtFrame[sequence % 2], bytes.data(), bytes.size());
    record::Point point = {};
    point.frame = point.rss = sequence;
    point.tag_count = 1;
    point.tags[0].name = record_->tags[1].name;
    RecordFile::seal(&point, sizeof point, sequence);
    put(record::kAtRecent + sequence % record::kRecentPoints * sizeof point, &point, sizeof point);
  }

 private:
  void put(uint64_t offset, const void* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 48) {
      const size_t count = std::min<size_t>(48, bytes - at);
      ASSERT_EQ(pwrite(file_.descriptor(), static_cast<const char*>(from) + at, count,
                       off_t(offset + at)),
                ssize_t(count));
    }
  }

  WriterLock lock_;
  File file_;
  RecordFile* record_;
};

TEST_F(RecordReader, SeesEachMomentWholeWhileItIsWritten) {
  file_.names.resize(12 * record::kNameCell);
  for (record::TagRow& tag : file_.tags) tag.own.alloc_count = 1;
  write(file_.bytes(1));
  RestlessWriter writer(path_, &file_);
  writer.publish(2);
  std::atomic<bool> is_done = false;
  std::thread thread([&] {
    for (uint64_t sequence = 3; !is_done; ++sequence) writer.publish(sequence);
  });
  Reader reader(path_);
  Record record;
  uint64_t last = 0;
  for (int i = 0; i < 10'000; ++i) {
    reader.read(&record);
    const uint64_t allocs = record.tags()[0].own.alloc_count;
    ASSERT_EQ(allocs, record.tags()[2].own.alloc_count);
    ASSERT_EQ(record.name(record.tags()[1]), RestlessWriter::name_of(allocs));
    last = std::max(last, record.frame_head().seal.sequence);
    if (i % 20 != 0) continue;
    for (const record::Point& point : reader.points(Reader::Ring::kRecent, record)) {
      if (point.tag_count == 0) continue;
      ASSERT_EQ(record.name(point.tags[0].name), RestlessWriter::name_of(point.rss));
    }
  }
  is_done = true;
  thread.join();
  EXPECT_GT(last, 2u);
}

// The figure that matters is printed; what is asserted leaves room for a busy machine.
TEST_F(RecordReader, ReadsAThousandTagsInATenthOfAMillisecond) {
  RecordFile large;
  large.add_tag("/", 0, 0);
  for (int i = 0; i < 1000; ++i) large.add_tag("/lib/libnumber" + std::to_string(i), 4096, 8192);
  write(large.bytes());
  Reader reader(path_);
  Record record;
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 200; ++i) {
    auto start = std::chrono::steady_clock::now();
    reader.read(&record);
    best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
  }
  printf("1,000 tags read in %ld us\n", long(best.count() / 1000));
  EXPECT_EQ(record.tags().size(), 1001u);
  EXPECT_LT(best, std::chrono::milliseconds(1));
}

constexpr char kDump[] = R"({"version":2,"pid":12,"backend":"os",
"process":{"rss_bytes":1000000,"mapped_bytes":5000000,"metadata_bytes":300},
"tags":[
{"id":0,"name":"/","parent":null,"live_bytes":100,"live_blocks":2,"footprint_bytes":4096,
"peak_footprint_bytes":8192,"alloc_count":5,"free_count":3,"requested_bytes":90},
{"id":7,"name":"/a","parent":0,"live_bytes":200,"live_blocks":1,"footprint_bytes":4096,
"peak_footprint_bytes":4096,"alloc_count":1,"free_count":0,"requested_bytes":200,
"hard_limit_bytes":65536,"pressure":"soft","charged_bytes":50},
{"id":8,"name":"/tally","parent":0,"live_bytes":300,"live_blocks":0,"footprint_bytes":300,
"peak_footprint_bytes":300,"alloc_count":0,"free_count":0,"requested_bytes":0}],
"classes":[{"tag":7,"size":256,"live_blocks":1,"capacity_blocks":16,"slabs":1,
"footprint_bytes":4096,"fill":[1,0,0,0,0,0,0,0,0,0],"sparse_slabs":1}]})";

TEST_F(RecordReader, ReadsADumpInJson) {
  write(kDump);
  const Record record = load(path_);
  EXPECT_TRUE(record.is_dump);
  EXPECT_EQ(record.head.pid, 12);
  ASSERT_EQ(record.tags().size(), 3u);
  const record::TagRow& a = require_tag(record, "/a");
  EXPECT_EQ(a.id, 7u);
  EXPECT_EQ(a.hard_limit, 65536u);
  EXPECT_EQ(a.soft_limit, TALLY_LIMIT_NONE);
  EXPECT_EQ(a.pressure, unsigned{TALLY_PRESSURE_SOFT});
  EXPECT_EQ(require_tag(record, "/").total.live_bytes, 600u);
  EXPECT_EQ(require_tag(record, "/").total.footprint_bytes, 2 * 4096u + 300);
  EXPECT_EQ(record.ledger().live, 250u);
  EXPECT_EQ(record.ledger().charged, 50u);
  EXPECT_EQ(record.ledger().metadata, 300u);
  ASSERT_EQ(record.classes().size(), 1u);
  EXPECT_EQ(record.classes()[0].capacity_blocks, 16u);
  EXPECT_EQ(record.classes()[0].fill[0], 1u);
  EXPECT_EQ(record.classes()[0].sparse_slabs, 1u);
  EXPECT_GT(record.frame_head().time, 1'600'000'000'000'000'000);
}

TEST_F(RecordReader, SaysWhatIsWrongWithADump) {
  const std::string whole = kDump;
  fails(whole.substr(0, 100), "JSON that is cut short at 100 bytes");
  fails("{,}", "begins as JSON, but is none");
  fails("[]", "JSON, but not Tally's: it is no object");
  fails("{}", "JSON, but not Tally's: it has no \"version\"");
  const std::string newer = std::to_string(TALLY_STATS_VERSION + 1);
  fails("{\"version\":" + newer + "}",
        "version " + newer + " of Tally's JSON; this tally reads up to " +
            std::to_string(TALLY_STATS_VERSION) + ": use the one that came with the library");
  auto without = [&](const std::string& text, const std::string& other) {
    std::string changed = whole;
    return changed.replace(changed.find(text), text.size(), other);
  };
  fails(without("\"pid\":12", "\"pid\":-12"), "JSON, but not Tally's: it has no \"pid\"");
  fails(without("\"process\"", "\"p\""), "JSON, but not Tally's: it has no \"process\"");
  fails(without("\"rss_bytes\"", "\"r\""),
        "JSON, but not Tally's: its \"process\" has no \"rss_bytes\"");
  fails(without("\"tags\"", "\"t\""), "JSON, but not Tally's: it has no \"tags\"");
  fails(without("\"tags\":[", "\"tags\":[1,"),
        "JSON, but not Tally's: a row of \"tags\" is no object");
  fails(without("\"live_bytes\"", "\"l\""),
        "JSON, but not Tally's: a row of \"tags\" has no \"live_bytes\"");
  fails(without("\"capacity_blocks\"", "\"c\""),
        "JSON, but not Tally's: a row of \"classes\" has no \"capacity_blocks\"");
  fails(without("\"name\":\"/a\"", "\"name\":\"a\""), "damaged: the tag with the id 7 has no name");
  fails(std::string(1 << 20, '['), "JSON that is cut short at 1048576 bytes");
  write(without("\"name\":\"/a\"", "\"name\":\"/\\u0001\",\"pressure\":[[[[[[[[[[[]]]]]]]]]]]"));
  EXPECT_EQ(failure_of(path_), "");
}

}  // namespace
}  // namespace tally::tool
