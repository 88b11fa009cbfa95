// Reads a record (record/layout.h) by pread alone: the file may change, shrink or be made to
// deceive while it is read, and whatever is in it is checked before it is used.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "profile.h"
#include "record.h"

namespace tally::tool {

// A descriptor that is closed in the end.
class File {
 public:
  explicit File(int descriptor = -1) : descriptor_(descriptor) {}
  File(File&& other) noexcept : descriptor_(other.release()) {}
  File& operator=(File&& other) noexcept;
  ~File();
  int descriptor() const { return descriptor_; }

 private:
  int release();
  int descriptor_;
};

class Reader {
 public:
  // Throws Failure (kFailed), as all here: there is no such file, or it holds no record. Where the
  // process is only just making it, waits a little.
  explicit Reader(const std::string& path);

  const std::string& path() const { return path_; }
  const record::Head& head() const { return head_; }

  // Whether the process that writes it lives: it holds a lock on the file.
  bool is_live() const;

  // The newest frame that is whole. `record` may be one that was read before: what it has is used
  // again, so that a refresh allocates nothing.
  void read(Record* record);
  Record read();
  // The frame before the newest, for what changed between the two. False: there is none, or the
  // process is about to write over it.
  bool read_before(Record* record);

  // What was held when, oldest first, until `record`, which has the names of their tags: as far as
  // the entries are whole. Tags whose names have given way to others are left out.
  enum class Ring { kRecent, kMinutes };
  std::vector<record::Point> points(Ring ring, const Record& record);
  // Likewise what happened at limits, at any time.
  std::vector<record::Event> events();

  // The newest sampled heap profile that is whole, with its calls, modules and texts.
  Profile read_profile();

  // The newest reply, if it is whole and to this request.
  bool has_reply(uint64_t sequence, record::Reply* reply);

 private:
  enum class Found { kNothing, kTorn, kWhole };
  // What is written in turn at one of two places, and begins with a seal and its size.
  struct Pair {
    const uint64_t (&at)[2];
    size_t least_bytes, most_bytes;
  };
  static constexpr Pair kFrames = {record::kAtFrame, sizeof(record::FrameHead),
                                   record::kFrameBytes};
  static constexpr Pair kProfiles = {record::kAtProfile, sizeof(record::ProfileHead),
                                     record::kProfileBytes};

  void read_head();
  // Which of the two is the newer one; its sequence.
  std::pair<int, uint64_t> newest(const Pair& pair) const;
  // `words` holds the piece where it was found whole, and is at least as long.
  Found read_newest(const Pair& pair, std::vector<uint64_t>* words) const;
  bool read_one(const Pair& pair, int which, std::vector<uint64_t>* words) const;
  Found read_frame(Record* record) const;
  bool read_names(Record* record) const;
  Found read_profile(Profile* profile) const;
  void take_profile(const std::vector<uint64_t>& words, Profile* profile) const;
  template <class Row>
  std::vector<Row> read_rows(uint64_t offset, size_t count) const;
  [[noreturn]] void fail(const std::string& why) const;
  void read_at(uint64_t offset, void* to, size_t bytes) const;
  template <class Entry>
  std::vector<Entry> read_ring(uint64_t offset, size_t count) const;

  std::string path_;
  File file_;
  record::Head head_ = {};
};

}  // namespace tally::tool
