#include "record_reader.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "failure.h"

namespace tally::tool {
namespace {

// A frame is written in well under a millisecond; a process that starts has a head as soon.
constexpr int kTries = 50;
constexpr std::chrono::milliseconds kBetweenTries(2);

template <class Piece>
bool is_whole(const Piece& piece) {
  return piece.seal.sequence != 0 &&
         record::seal_of(&piece, sizeof piece, piece.seal.sequence) == piece.seal.checksum;
}

}  // namespace

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}
File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}
int File::release() { return std::exchange(descriptor_, -1); }

// O_NONBLOCK: a pipe may stand there.
Reader::Reader(const std::string& path)
    : path_(path), file_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
  if (file_.descriptor() < 0) fail(strerror(errno));
  struct stat status;
  if (fstat(file_.descriptor(), &status) != 0) fail(strerror(errno));
  if (!S_ISREG(status.st_mode)) fail("not a file");
  read_head();
}

void Reader::fail(const std::string& why) const { throw Failure(kFailed, path_ + ": " + why); }

void Reader::read_at(uint64_t offset, void* to, size_t bytes) const {
  char* at = static_cast<char*>(to);
  while (bytes != 0) {
    ssize_t count = pread(file_.descriptor(), at, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(strerror(errno));
    if (count == 0) {
      struct stat status = {};
      fstat(file_.descriptor(), &status);
      fail("cut short: it has " + std::to_string(status.st_size) + " bytes, a record has " +
           std::to_string(record::kFileBytes));
    }
    at += count;
    offset += static_cast<size_t>(count);
    bytes -= static_cast<size_t>(count);
  }
}

void Reader::read_head() {
  struct {
    char magic[sizeof record::kMagic];
    uint32_t version;
  } begin = {};
  static constexpr char kNone[sizeof record::kMagic] = {};
  for (int tries = 0; memcmp(begin.magic, kNone, sizeof kNone) == 0; ++tries) {
    if (tries == kTries) {
      fail("empty: its process has only just started, or died as it did");
    }
    if (tries != 0) std::this_thread::sleep_for(kBetweenTries);
    ssize_t count = pread(file_.descriptor(), &begin, sizeof begin, 0);
    if (count < 0) fail(strerror(errno));
    if (count != 0 && count < ssize_t{sizeof begin}) break;
  }
  if (memcmp(begin.magic, record::kMagic, sizeof begin.magic) != 0) {
    fail("neither a record of Tally's nor its JSON");
  }
  if (begin.version != record::kVersion) {
    fail("a record of version " + std::to_string(begin.version) + "; this tally reads version " +
         std::to_string(record::kVersion) + ": use the one that came with the library");
  }
  read_at(0, &head_, sizeof head_);
  char last;
  read_at(record::kFileBytes - 1, &last, 1);
  constexpr size_t kSealed = offsetof(record::Head, file_bytes);
  uint64_t sum =
      record::checksum(0, reinterpret_cast<const char*>(&head_) + kSealed, sizeof head_ - kSealed);
  if (head_.bytes != sizeof head_ || head_.checksum != sum ||
      head_.file_bytes != record::kFileBytes) {
    fail("damaged: its head is not what was written");
  }
}

// Shared, so that two readers do not take each other for the writer; and only of a file whose head
// is there, whose writer has its lock.
bool Reader::is_live() const {
  if (flock(file_.descriptor(), LOCK_SH | LOCK_NB) != 0) return errno == EWOULDBLOCK;
  flock(file_.descriptor(), LOCK_UN);
  return false;
}

Record Reader::read() {
  Record record;
  read(&record);
  return record;
}

void Reader::read(Record* record) {
  record->source = path_;
  record->is_live = is_live();
  record->head = head_;
  Found found = read_frame(record);
  for (int tries = 0; found != Found::kWhole && record->is_live && tries < kTries; ++tries) {
    std::this_thread::sleep_for(kBetweenTries);
    found = read_frame(record);
  }
  if (found == Found::kTorn) fail("damaged: neither of its frames is whole, with its names");
  const std::string process = "process " + std::to_string(head_.pid);
  if (found == Found::kNothing && record->is_live) {
    fail("no frame yet: " + process + " has only just started; try again");
  }
  if (found == Found::kNothing) fail("no frame: " + process + " ended before it wrote one");
}

// kTorn also where its names are others' by now: its writer has gone on, and has a newer one.
Reader::Found Reader::read_frame(Record* record) const {
  const Found found = read_newest(kFrames, &record->frame);
  if (found != Found::kWhole) return found;
  return read_names(record) ? Found::kWhole : Found::kTorn;
}

// After the frame, and `since` after the names: see record/layout.h. False: they are others' by
// now.
bool Reader::read_names(Record* record) const {
  const size_t bytes = record->frame_head().names_bytes;
  if (bytes > record::kNamesBytes) fail("damaged: more names than a record has");
  record->names.resize(bytes);
  read_at(record::kAtNames, record->names.data(), bytes);
  record->since.resize((bytes + record::kNameCell - 1) / record::kNameCell);
  read_at(record::kAtNames + record::kNamesBytes, record->since.data(),
          record->since.size() * sizeof(uint64_t));
  record->require_rows();
  if (!record->has_its_names()) return false;
  record->require_sound();
  return true;
}

bool Reader::read_before(Record* record) {
  record->source = path_;
  record->is_live = is_live();
  record->head = head_;
  if (!read_one(kFrames, 1 - newest(kFrames).first, &record->frame)) return false;
  return read_names(record);
}

std::pair<int, uint64_t> Reader::newest(const Pair& pair) const {
  uint64_t sequences[2];
  for (int i : {0, 1}) read_at(pair.at[i], &sequences[i], sizeof *sequences);
  int which = sequences[1] > sequences[0] ? 1 : 0;
  return {which, sequences[which]};
}

// Model: tests/model/record_model.cpp.
Reader::Found Reader::read_newest(const Pair& pair, std::vector<uint64_t>* words) const {
  auto [which, sequence] = newest(pair);
  if (sequence == 0) return Found::kNothing;
  const bool is_found = read_one(pair, which, words) || read_one(pair, 1 - which, words);
  return is_found ? Found::kWhole : Found::kTorn;
}

bool Reader::read_one(const Pair& pair, int which, std::vector<uint64_t>* words) const {
  struct {
    record::Seal seal;
    uint64_t bytes;
  } begin;
  read_at(pair.at[which], &begin, sizeof begin);
  if (begin.seal.sequence == 0) return false;
  const uint64_t bytes = begin.bytes;
  if (bytes < pair.least_bytes || bytes > pair.most_bytes || bytes % 8 != 0) return false;
  if (words->size() < bytes / 8) words->resize(bytes / 8);
  read_at(pair.at[which], words->data(), bytes);
  memcpy(&begin, words->data(), sizeof begin);  // it may be another by now
  return begin.bytes == bytes && begin.seal.sequence != 0 &&
         record::seal_of(words->data(), bytes, begin.seal.sequence) == begin.seal.checksum;
}

template <class Row>
std::vector<Row> Reader::read_rows(uint64_t offset, size_t count) const {
  std::vector<Row> rows(count);
  read_at(offset, rows.data(), count * sizeof(Row));
  return rows;
}

Profile Reader::read_profile() {
  Profile profile;
  Found found = read_profile(&profile);
  for (int tries = 0; found == Found::kTorn && is_live() && tries < kTries; ++tries) {
    std::this_thread::sleep_for(kBetweenTries);
    found = read_profile(&profile);
  }
  if (found == Found::kTorn) fail("damaged: neither of its profiles is whole, with its texts");
  if (found == Found::kNothing) return {};
  // It is not written again while nothing changes, but frames are.
  std::vector<uint64_t> words;
  if (read_newest(kFrames, &words) == Found::kWhole) {
    const auto* frame = reinterpret_cast<const record::FrameHead*>(words.data());
    profile.head.time = std::max(profile.head.time, frame->time);
  }
  return profile;
}

// As read_frame, of texts.
Reader::Found Reader::read_profile(Profile* profile) const {
  std::vector<uint64_t> words;
  const Found found = read_newest(kProfiles, &words);
  if (found != Found::kWhole) return found;
  take_profile(words, profile);
  // Appended to and never changed: what there was then is there now.
  profile->calls = read_rows<record::Call>(record::kAtCalls, profile->head.call_count);
  profile->modules = read_rows<record::Module>(record::kAtModules, profile->head.module_count);
  profile->texts = read_rows<char>(record::kAtTexts, profile->head.texts_bytes);
  const auto since =
      read_rows<uint64_t>(record::kAtTexts + record::kNamesBytes, record::kNameCells);
  const auto is_gone = [&](const record::Site& site) {
    return !is_still_there(since, site.tag, profile->head.seal.sequence);
  };
  if (std::ranges::any_of(profile->sites, is_gone)) return Found::kTorn;
  profile->require_sound(path_);
  return Found::kWhole;
}

void Reader::take_profile(const std::vector<uint64_t>& words, Profile* profile) const {
  const char* at = reinterpret_cast<const char*>(words.data());
  record::ProfileHead& head = profile->head;
  memcpy(&head, at, sizeof head);
  const size_t samples_at = sizeof head + head.site_count * sizeof(record::Site);
  if (head.bytes != samples_at + head.sample_count * sizeof(record::Sample)) {
    fail("damaged: its profile has other rows than it says");
  }
  if (head.call_count > record::kCallsMax || head.module_count > record::kModulesMax ||
      head.texts_bytes > record::kNamesBytes) {
    fail("damaged: its profile has more calls, modules or texts than a record has");
  }
  auto* sites = reinterpret_cast<const record::Site*>(at + sizeof head);
  profile->sites.assign(sites, sites + head.site_count);
  auto* samples = reinterpret_cast<const record::Sample*>(at + samples_at);
  profile->samples.assign(samples, samples + head.sample_count);
}

template <class Entry>
std::vector<Entry> Reader::read_ring(uint64_t offset, size_t count) const {
  std::vector<Entry> entries(count);
  read_at(offset, entries.data(), count * sizeof(Entry));
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i) {
    bool is_good = is_whole(entries[i]) && entries[i].seal.sequence % count == i;
    if (is_good) entries[kept++] = entries[i];
  }
  entries.resize(kept);
  std::sort(entries.begin(), entries.end(), [](const Entry& one, const Entry& other) {
    return one.seal.sequence < other.seal.sequence;
  });
  return entries;
}

std::vector<record::Point> Reader::points(Ring ring, const Record& record) {
  bool is_recent = ring == Ring::kRecent;
  auto points = read_ring<record::Point>(is_recent ? record::kAtRecent : record::kAtMinutes,
                                         is_recent ? record::kRecentPoints : record::kMinutePoints);
  std::erase_if(points, [&record](const record::Point& point) {
    return point.tag_count > record::kPointTagsMax ||
           point.frame > record.frame_head().seal.sequence;
  });
  for (record::Point& point : points) {
    const auto gone = [&](const record::PointTag& tag) {
      return !is_still_there(record.since, tag.name, point.frame);
    };
    record::PointTag* end = std::remove_if(point.tags, point.tags + point.tag_count, gone);
    point.tag_count = static_cast<uint32_t>(end - point.tags);
  }
  return points;
}

std::vector<record::Event> Reader::events() {
  return read_ring<record::Event>(record::kAtEvents, record::kEventsMax);
}

bool Reader::has_reply(uint64_t sequence, record::Reply* reply) {
  read_at(record::kAtReply, reply, sizeof *reply);
  return is_whole(*reply) && reply->seal.sequence == sequence;
}

}  // namespace tally::tool
