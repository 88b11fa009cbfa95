#include "record/writer.h"

#include <errno.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/config.h"
#include "fake_os.h"
#include "record_folder.h"
#include "sample/profile.h"
#include "unit.h"

namespace tally::unit {
namespace {

class WriterTest : public testing::Test {
 protected:
  ~WriterTest() override { record::finish(false); }
  std::string start() {
    return told([&](core::TextWriter& why) { record::start(folder_.path(), {250, true}, why); });
  }
  ReadRecord read() const { return ReadRecord(folder_.mine()); }

  RecordFolder folder_;
};

TEST_F(WriterTest, TellsOfTheProcess) {
  ASSERT_EQ(start(), "");
  ReadRecord found = read();
  ASSERT_TRUE(found.is_whole());
  const record::Head& head = *found.head();
  EXPECT_EQ(memcmp(head.magic, record::kMagic, sizeof head.magic), 0);
  EXPECT_EQ(head.version, record::kVersion);
  EXPECT_EQ(head.bytes, sizeof head);
  EXPECT_EQ(head.pid, getpid());
  EXPECT_EQ(head.uid, geteuid());
  EXPECT_EQ(head.interval_ms, 250U);
  EXPECT_EQ(head.has_thread, 1U);
  EXPECT_STREQ(head.tally_version, tally_version());
  EXPECT_STREQ(head.backend, "os");
  EXPECT_STREQ(head.executable, std::filesystem::read_symlink("/proc/self/exe").c_str());
  EXPECT_EQ(head.checksum,
            record::checksum(0, reinterpret_cast<const char*>(&head) + 24, sizeof head - 24));
  ASSERT_NE(found.frame(), nullptr);
  EXPECT_EQ(found.frame()->seal.sequence, 1U);
  EXPECT_NE(found.tag("/"), nullptr);
  EXPECT_NE(found.tag("/tally"), nullptr);
}

TEST_F(WriterTest, PublishesWhatIsHeld) {
  ASSERT_EQ(start(), "");
  const tally_tag tag = make_tag("/writer/a");
  void* blocks[100];
  for (void*& block : blocks) block = tally_malloc(tag, 100);
  EXPECT_EQ(record::publish(false), 0);
  ReadRecord found = read();
  EXPECT_EQ(found.frame()->seal.sequence, 2U);
  EXPECT_EQ(found.frame()->is_last, 0U);
  EXPECT_EQ(found.tag("/writer/a")->own.live_blocks, 100U);
  EXPECT_EQ(found.tag("/writer")->total.live_blocks, 100U);
  const auto* point = found.at<record::Point>(record::kAtRecent + 2 * sizeof(record::Point));
  EXPECT_EQ(point->seal.checksum, record::seal_of(point, sizeof *point, 2));
  EXPECT_EQ(point->time, found.frame()->time);
  const auto* minute = found.at<record::Point>(record::kAtMinutes + sizeof(record::Point));
  EXPECT_EQ(minute->seal.sequence, 1U) << "and no other within the minute";
  EXPECT_EQ(minute[1].seal.sequence, 0U);
  for (void* block : blocks) tally_free(block);
  EXPECT_EQ(record::publish(true), 0);
  EXPECT_EQ(read().frame()->is_last, 1U);
  EXPECT_EQ(read().tag("/writer/a")->own.live_blocks, 0U);
}

TEST_F(WriterTest, OneOfTwoFramesIsWholeWhateverIsTorn) {
  ASSERT_EQ(start(), "");
  for (uint64_t i = 2; i < 8; ++i) {
    ASSERT_EQ(record::publish(false), 0);
    int fd = open(folder_.mine().c_str(), O_RDWR);
    ASSERT_EQ(pwrite(fd, "torn", 4, static_cast<off_t>(record::kAtFrame[i % 2] + 300)), 4);
    close(fd);
    EXPECT_EQ(read().frame()->seal.sequence, i - 1);
    ASSERT_EQ(record::publish(false), 0);
    ++i;
    EXPECT_EQ(read().frame()->seal.sequence, i);
  }
}

TEST_F(WriterTest, WithoutRoomThereIsNone) {
  for (int error : {ENOSPC, EIO}) {
    fake_os::set_write_error(error);
    // The head, the names, a frame, two points, and the magic.
    for (uint64_t n = 0; n < 6; ++n) {
      fake_os::Failing failing(fake_os::kWriteAt, n, 1);
      EXPECT_EQ(start(), "cannot write " + folder_.mine() + ": " + strerror(error)) << n;
      EXPECT_FALSE(record::is_on());
      EXPECT_EQ(folder_.count(), 0U);
    }
    EXPECT_EQ(start(), "");
    make_tag(error == EIO ? "/new/a" : "/new/b");  // a name to write
    for (uint64_t n = 0; n < 3; ++n) {
      fake_os::Failing failing(fake_os::kWriteAt, n, 1);
      EXPECT_EQ(record::publish(false), error) << n;
      EXPECT_FALSE(record::is_on());
      EXPECT_EQ(folder_.count(), 0U);
      fake_os::fail_none();
      EXPECT_EQ(start(), "") << "nothing is left of it";
      make_tag(("/new/" + std::to_string(error) + std::to_string(n)).c_str());
    }
    record::finish(false);
  }
}

// The samples are most of a record: a full folder ends them alone, and until there is room again.
TEST_F(WriterTest, WithoutRoomForSamplesTheRestGoesOn) {
  fake_os::set_write_error(ENOSPC);
  core::profile.start(2);
  EXPECT_EQ(start(), "");
  void* block = tally_malloc(make_tag("/writer/sampled"), 100);
  EXPECT_EQ(record::publish(false), 0);
  const uint64_t sequence = read().frame()->seal.sequence;
  auto sites = [&] {
    uint32_t most = 0;
    for (uint64_t place : record::kAtProfile) {
      most = std::max(most, read().at<record::ProfileHead>(place)->site_count);
    }
    return most;
  };
  const uint32_t before = sites();
  EXPECT_GT(before, 0U);
  void* other = tally_malloc(make_tag("/writer/sampled"), 1000);
  {
    fake_os::Failing failing(fake_os::kWriteAt, 2);  // a frame and a point can be written
    EXPECT_EQ(record::publish(false), 0);
    EXPECT_TRUE(record::is_on());
  }
  EXPECT_GT(read().frame()->seal.sequence, sequence);
  EXPECT_EQ(sites(), before);
  EXPECT_EQ(record::publish(false), 0);
  EXPECT_GT(sites(), before);
  tally_free(block);
  tally_free(other);
  record::finish(false);
}

// The modules of the first stack may be known, and no memory be there for the stack.
TEST_F(WriterTest, WithoutMemoryForSamplesTheRestGoesOn) {
  const tally_tag tag = make_tag("/writer/unsampled");
  tally_free(tally_malloc(tag, 100));
  for (uint64_t n = 0; n < 6; ++n) {
    pid_t pid = fork();
    if (pid == 0) {
      core::profile.start(2);
      fake_os::fail(fake_os::kMap, n, 1);
      void* block = tally_malloc(tag, 1000);
      fake_os::fail_none();
      const bool is_written = start().empty() && read().frame() != nullptr;
      tally_free(block);
      record::finish(false);
      _exit(is_written ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0) << "where map " << n << " fails";
  }
}

TEST_F(WriterTest, WithoutMemoryTheLastStands) {
  ASSERT_EQ(start(), "");
  // More tags than there is room for.
  for (int i = 0; i < 200; ++i) make_tag(("/more/" + std::to_string(i)).c_str());
  {
    fake_os::Failing failing(fake_os::kMap);
    EXPECT_EQ(record::publish(false), 0);
  }
  EXPECT_EQ(read().frame()->seal.sequence, 1U);
  EXPECT_EQ(record::publish(false), 0);
  EXPECT_NE(read().tag("/more/199"), nullptr);
}

TEST_F(WriterTest, TellsOfEvents) {
  ASSERT_EQ(start(), "");
  const tally_tag tag = make_tag("/eventful");
  ASSERT_EQ(tally_limit_set(tag, 1000, 2000, TALLY_POLICY_FAIL), 0);
  const unsigned more = record::kEventsMax + 3;
  for (unsigned i = 1; i <= more; ++i) {
    record::write_event(record::EventKind::kFailed, *core::find_tag(tag), i, 7);
  }
  ReadRecord found = read();
  const auto* events = found.at<record::Event>(record::kAtEvents);
  for (unsigned i = 0; i < record::kEventsMax; ++i) {
    const record::Event& event = events[i];
    EXPECT_EQ(event.seal.checksum, record::seal_of(&event, sizeof event, event.seal.sequence));
    EXPECT_EQ(event.seal.sequence % record::kEventsMax, i);
    EXPECT_EQ(event.asked, event.seal.sequence);
    EXPECT_EQ(event.soft, 1000U);
    EXPECT_EQ(event.hard, 2000U);
    EXPECT_EQ(event.left_out, 7U);
    EXPECT_STREQ(event.tag, "/eventful");
  }
}

TEST_F(WriterTest, ServesRequests) {
  ASSERT_EQ(start(), "");
  EXPECT_FALSE(record::serve_request());
  record::Request request = {};
  request.kind = record::RequestKind::kSetLimit;
  request.soft = TALLY_LIMIT_NONE;
  request.hard = 5000;
  strcpy(request.tag, "served");
  request.seal = {3, record::seal_of(&request, sizeof request, 3)};
  int fd = open(folder_.mine().c_str(), O_RDWR);
  ASSERT_EQ(pwrite(fd, &request, sizeof request, record::kAtRequest), ssize_t{sizeof request});
  EXPECT_TRUE(record::serve_request());
  EXPECT_FALSE(record::serve_request()) << "once";
  ReadRecord found = read();
  const auto* reply = found.at<record::Reply>(record::kAtReply);
  EXPECT_EQ(reply->seal.sequence, 3U);
  EXPECT_EQ(reply->seal.checksum, record::seal_of(reply, sizeof *reply, 3));
  EXPECT_EQ(reply->error, 0);
  const auto* event = found.at<record::Event>(record::kAtEvents + sizeof(record::Event));
  EXPECT_EQ(event->kind, record::EventKind::kLimitSet);
  EXPECT_EQ(event->hard, 5000U);
  close(fd);
}

TEST_F(WriterTest, AnotherProcessHasNone) {
  ASSERT_EQ(start(), "");
  pid_t pid = fork();
  if (pid == 0) _exit(record::is_on() ? 1 : 0);
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(record::is_on());
}

// As of a server that names its tags by its requests: each seen by a publication, and sampled, and
// seven times as many as there is room for.
TEST_F(WriterTest, NamesOfTagsThatAreGoneGiveTheirRoomToOthers) {
  core::profile.start(64);
  ASSERT_EQ(start(), "");
  const tally_tag stays = make_tag("/stays");
  void* block = tally_malloc(stays, 4096);
  constexpr uint64_t kAtOnce = 1900, kTimes = core::kThreadSanitizer || core::kChecks ? 24 : 64;
  std::vector<std::pair<tally_tag, void*>> requests;
  uint64_t count = 0;
  auto path_of = [](uint64_t n) { return "/requests/" + std::to_string(n); };
  for (uint64_t time = 0; time < kTimes; ++time) {
    for (auto [tag, request] : requests) {
      ASSERT_EQ(tally_tag_retire(tag), 0);
      tally_free(request);
    }
    requests.clear();
    for (uint64_t i = 0; i < kAtOnce; ++i) {
      const tally_tag tag = make_tag(path_of(count++).c_str());
      requests.emplace_back(tag, tally_malloc(tag, 1000));
    }
    ASSERT_EQ(record::publish(false), 0);
    if (time % (kTimes / 8) != 1 && time + 1 != kTimes) continue;
    ReadRecord found = read();
    ASSERT_EQ(found.frame()->tags_left_out, 0U);
    ASSERT_NE(found.tag("/stays"), nullptr);
    for (uint64_t i = count - kAtOnce; i < count; i += 99) {
      const record::TagRow* tag = found.tag(path_of(i).c_str());
      ASSERT_NE(tag, nullptr) << path_of(i);
      ASSERT_EQ(tag->own.live_blocks, 1U);
      ASSERT_EQ(tag->id, requests[i - (count - kAtOnce)].first);
    }
    // Samples of tags that came last, not only of the first.
    const record::ProfileHead* head = found.profile();
    auto* sites = reinterpret_cast<const record::Site*>(head + 1);
    uint64_t of_last = 0;
    for (uint32_t i = 0; i < head->site_count; ++i) {
      if (sites[i].live.objects == 0) continue;
      const std::string path = found.text(sites[i].tag);
      ASSERT_TRUE(path == "/stays" || path.starts_with("/requests/") || sites[i].call == 0) << path;
      of_last += path >= path_of(count - kAtOnce) && path.starts_with("/requests/");
    }
    ASSERT_GT(of_last, kAtOnce / 2);
  }
  for (auto [tag, request] : requests) {
    tally_tag_retire(tag);
    tally_free(request);
  }
  tally_free(block);
}

// As by a signal handler, at each of a publication's writes: of names, of the frame, of a point.
TEST_F(WriterTest, AForkInTheMiddleLeavesTheRecordToTheParent) {
  static pid_t child;
  ASSERT_EQ(start(), "");
  for (unsigned nth = 1; nth <= 3; ++nth) {
    make_tag(("/fork/" + std::to_string(nth)).c_str());
    child = -1;
    fake_os::before_write(nth, [] {
      child = fork();
      if (child == 0) record::leave_to_parent();
    });
    const int error = record::publish(false);
    if (child == 0) _exit(error == ESTALE && !record::is_on() ? 0 : 1);
    EXPECT_EQ(error, 0);
    ASSERT_GT(child, 0);
    int status;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    ASSERT_TRUE(std::filesystem::exists(folder_.mine()));
    EXPECT_EQ(read().frame()->seal.sequence, 1U + nth);
  }
}

// What ThreadSanitizer looks at: everything at once.
TEST_F(WriterTest, PublishesWhileThreadsWork) {
  ASSERT_EQ(start(), "");
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Random random(t);
      const tally_tag tag = make_tag(("/busy/" + std::to_string(t)).c_str());
      void* blocks[64] = {};
      while (!stop.load()) {
        void*& block = blocks[random.below(64)];
        tally_free(block);
        block =
            tally_malloc(tag, random.below(100) == 0 ? random.below(3 << 20) : random.below(9000));
      }
      for (void* block : blocks) tally_free(block);
    });
  }
  threads.emplace_back([&] {
    for (uint64_t i = 0; !stop.load(); ++i) {
      const tally_tag tag = make_tag(("/comes/" + std::to_string(i % 50)).c_str());
      tally_limit_set(tag, i, i * 2, TALLY_POLICY_FAIL);
      record::write_event(record::EventKind::kSoft, *core::find_tag(tag), 0, 0);
      tally_tag_retire(tag);
    }
  });
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(record::publish(false), 0);
    ReadRecord found = read();
    ASSERT_NE(found.frame(), nullptr);
    ASSERT_EQ(found.frame()->seal.sequence, i + 2U);
    if (i % 20 == 0 && !core::kThreadSanitizer) {
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      waitpid(pid, nullptr, 0);
    }
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tally::unit
