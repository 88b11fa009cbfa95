// Plays a process that has a record: makes FOLDER/<pid>.tally, prints "ready", and lives until its
// input ends.
//
// usage: record_writer FOLDER [answer|mute|dead|TAGS]
//   answer  answers requests: a limit of /refused with EINVAL, a trim with 3 MiB
//   mute    answers none (default)
//   dead    as mute, but without the lock on the file
//   TAGS    so many tags more
#include <poll.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "record_file.hpp"

namespace {

using namespace tally;
using test::RecordFile;

constexpr uint64_t kMiB = 1 << 20;

RecordFile make_record(int more_tags) {
  RecordFile file;
  file.head.pid = getpid();
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  file.frame.time = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  file.frame.uptime = 90'000'000'000;

  file.add_tag("/", kMiB, 2 * kMiB);
  file.add_tag("/cache", 0, 64 * 1024);
  file.add_tag("/cache/blocks", 23 * kMiB, 30 * kMiB);
  file.add_tag("/net", 0, 0);
  file.add_tag("/net/\"tls\"\\\xff", kMiB / 2, kMiB);
  file.add_tag("/tally", kMiB / 2, kMiB / 2);
  for (int i = 0; i < more_tags; ++i)
    file.add_tag("/lib/libnumber" + std::to_string(i), 4096, 8192);
  for (record::TagRow& tag : file.tags) {
    const std::string path = file.names.c_str() + tag.name;
    for (const record::TagRow& other : file.tags) {
      const std::string below = file.names.c_str() + other.name;
      bool is_below = path == "/" ? below != "/" : below.starts_with(path + "/");
      if (!is_below) continue;
      tag.total.live_bytes += other.own.live_bytes;
      tag.total.live_blocks += other.own.live_blocks;
      tag.total.footprint_bytes += other.own.footprint_bytes;
      tag.total.peak_footprint_bytes += other.own.peak_footprint_bytes;
    }
  }
  file.tags[1].soft_limit = 16 * kMiB;
  file.tags[1].pressure = TALLY_PRESSURE_SOFT;
  file.tags[1].pressure_ms = 250;
  file.tags[2].hard_limit = 32 * kMiB;
  file.tags[2].refused_count = 2;

  record::ClassRow row = {};
  row.tag = 2;
  row.block_size = 4096;
  row.live_blocks = 5888;
  row.capacity_blocks = 7680;
  row.slabs = row.fill[7] = 480;
  row.footprint = 30 * kMiB;
  file.classes.push_back(row);

  record::Ledger& ledger = file.frame.ledger;
  ledger.rss = 40 * kMiB;
  ledger.live = 24 * kMiB + kMiB / 2;
  ledger.untouched = kMiB;
  ledger.in_slabs = 8 * kMiB + kMiB / 2;
  ledger.metadata = kMiB / 2;
  ledger.empty_slabs = kMiB;
  ledger.dirty = kMiB;
  ledger.shared = 4 * kMiB;
  ledger.mapped = 64 * kMiB;
  return file;
}

// What a process does with a request, if a whole and new one is there.
void answer(int fd, uint64_t* answered) {
  record::Request request;
  if (pread(fd, &request, sizeof request, record::kAtRequest) != ssize_t{sizeof request}) return;
  const uint64_t sequence = request.seal.sequence;
  if (sequence == 0 || sequence == *answered ||
      record::seal_of(&request, sizeof request, sequence) != request.seal.checksum) {
    return;
  }
  *answered = sequence;
  bool is_trim = request.kind == record::RequestKind::kTrim;
  printf("%s %s soft %llu hard %llu policy %u\n", is_trim ? "trim" : "limit", request.tag,
         (unsigned long long)request.soft, (unsigned long long)request.hard, request.policy);
  fflush(stdout);
  record::Reply reply = {};
  reply.error = strcmp(request.tag, "/refused") == 0 ? EINVAL : 0;
  reply.bytes = is_trim ? 3 * kMiB : 0;
  RecordFile::seal(&reply, sizeof reply, sequence);
  if (pwrite(fd, &reply, sizeof reply, record::kAtReply) < 0) perror("pwrite");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[2] : "mute";
  mkdir(argv[1], 0700);
  const std::string path = std::string(argv[1]) + "/" + std::to_string(getpid()) + ".tally";
  RecordFile::write(path, make_record(atoi(mode.c_str())).bytes());
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (mode != "dead") flock(fd, LOCK_EX);
  puts("ready");
  fflush(stdout);
  uint64_t answered = 0;
  for (pollfd input = {0, POLLIN, 0}; poll(&input, 1, 2) == 0;) {
    if (mode == "answer") answer(fd, &answered);
  }
  return 0;
}
