// A folder for records, and what is in one.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"
#include "base/text.h"
#include "record/layout.h"

namespace tally::unit {

class RecordFolder {
 public:
  RecordFolder() {
    char name[] = "/tmp/tally-record-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~RecordFolder() { std::filesystem::remove_all(path_); }
  RecordFolder(const RecordFolder&) = delete;
  RecordFolder& operator=(const RecordFolder&) = delete;
  const char* path() const { return path_.c_str(); }
  std::string file(int64_t pid) const { return path_ + "/" + std::to_string(pid) + ".tally"; }
  std::string mine() const { return file(getpid()); }
  // "0600" files of this name that nobody has locked.
  void leave_dead(int64_t pid, time_t changed) const {
    int fd = open(file(pid).c_str(), O_RDWR | O_CREAT, 0600);
    timespec times[2] = {{changed, 0}, {changed, 0}};
    futimens(fd, times);
    close(fd);
  }
  size_t count() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++count;
    return count;
  }

 private:
  std::string path_;
};

// What `call(why)` says.
template <class Call>
std::string told(Call call) {
  char text[256];
  core::TextWriter why(text, sizeof text);
  call(why);
  return {text, why.used()};
}

// A record as a reader sees it.
class ReadRecord {
 public:
  explicit ReadRecord(const std::string& path) : data_(take_spare()) {
    int fd = open(path.c_str(), O_RDONLY);
    length_ = pread(fd, data_.data(), data_.size(), 0);
    std::fill(data_.begin() + std::max<ssize_t>(length_, 0), data_.end(), 0);
    is_dead_ = flock(fd, LOCK_SH | LOCK_NB) == 0;
    close(fd);
  }
  ~ReadRecord() {
    if constexpr (core::kThreadSanitizer) spares().push_back(std::move(data_));
  }
  ReadRecord(const ReadRecord&) = delete;
  ReadRecord& operator=(const ReadRecord&) = delete;
  bool is_whole() const { return length_ == static_cast<ssize_t>(record::kFileBytes); }
  bool is_dead() const { return is_dead_; }
  const record::Head* head() const { return at<record::Head>(0); }
  // The newest that is sealed; nullptr: there is none.
  const record::FrameHead* frame() const {
    const record::FrameHead* newest = nullptr;
    for (uint64_t place : record::kAtFrame) {
      const auto* one = at<record::FrameHead>(place);
      bool is_sound = one->seal.sequence != 0 && one->bytes <= record::kFrameBytes &&
                      one->seal.checksum == record::seal_of(one, one->bytes, one->seal.sequence);
      if (is_sound && (newest == nullptr || one->seal.sequence > newest->seal.sequence))
        newest = one;
    }
    return newest;
  }
  const record::TagRow* tag(const char* path) const {
    const record::FrameHead* head = frame();
    const auto* rows = reinterpret_cast<const record::TagRow*>(head + 1);
    for (unsigned i = 0; i < head->tag_count; ++i) {
      if (std::string(name(rows[i].name)) == path) return &rows[i];
    }
    return nullptr;
  }
  // The newest that is sealed.
  const record::ProfileHead* profile() const {
    const record::ProfileHead* newest = nullptr;
    for (uint64_t place : record::kAtProfile) {
      const auto* one = at<record::ProfileHead>(place);
      bool is_sound = one->seal.sequence != 0 && one->bytes <= record::kProfileBytes &&
                      one->seal.checksum == record::seal_of(one, one->bytes, one->seal.sequence);
      if (is_sound && (newest == nullptr || one->seal.sequence > newest->seal.sequence))
        newest = one;
    }
    return newest;
  }
  const char* text(uint32_t offset) const { return data_.data() + record::kAtTexts + offset; }
  const char* name(uint32_t offset) const { return data_.data() + record::kAtNames + offset; }
  template <class T>
  const T* at(uint64_t offset) const {
    return reinterpret_cast<const T*>(data_.data() + offset);
  }

 private:
  // Under ThreadSanitizer their memory is used again: to have it mapped and unmapped, beside other
  // threads, takes most of what a read does there. One thread reads.
  static std::vector<std::vector<char>>& spares() {
    static std::vector<std::vector<char>> spares;
    return spares;
  }
  static std::vector<char> take_spare() {
    if (spares().empty()) return std::vector<char>(record::kFileBytes);
    std::vector<char> spare = std::move(spares().back());
    spares().pop_back();
    return spare;
  }

  std::vector<char> data_;
  ssize_t length_;
  bool is_dead_;
};

}  // namespace tally::unit
