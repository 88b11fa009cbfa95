// Writes records as the library does, for the tests of what reads them.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "record/layout.h"

namespace tally::test {

class RecordFile {
 public:
  record::Head head = {};
  record::FrameHead frame = {};
  std::vector<record::TagRow> tags;
  std::vector<record::ClassRow> classes;
  std::vector<record::Range> ranges;
  std::string names;

  // The sampled heap profile: there is one if profile.rate is not 0.
  record::ProfileHead profile = {};
  std::vector<record::Module> modules;
  std::vector<record::Call> calls = {{}};  // the root
  std::vector<record::Site> sites;
  std::vector<record::Sample> samples;
  std::string texts;

  RecordFile() {
    memcpy(head.magic, record::kMagic, sizeof head.magic);
    head.version = record::kVersion;
    head.bytes = sizeof head;
    head.file_bytes = record::kFileBytes;
    head.pid = 4711;
    head.uid = geteuid();
    head.page_size = 4096;
    head.interval_ms = 1000;
    strcpy(head.tally_version, "0.1.0");
    strcpy(head.backend, "os");
    strcpy(head.tag_by, "module");
    strcpy(head.executable, "/usr/bin/server");
    constexpr char kCommand[] =
        "server\0--port\0"
        "80";
    head.command_bytes = sizeof kCommand;
    memcpy(head.command, kCommand, sizeof kCommand);
    frame.time = 1'700'000'000'000'000'000;
  }

  // Adds a row; the totals are its own until add_up().
  record::TagRow& add_tag(const std::string& path, uint64_t live, uint64_t footprint) {
    record::TagRow tag = {};
    tag.id = static_cast<uint32_t>(tags.size());
    tag.parent = path == "/" ? TALLY_TAG_NONE : id_of(parent_of(path));
    tag.name = static_cast<uint32_t>(names.size());
    names += path + '\0';
    tag.soft_limit = tag.hard_limit = TALLY_LIMIT_NONE;
    tag.own.live_bytes = live;
    tag.own.live_blocks = tag.own.alloc_count = live / 64;
    tag.own.footprint_bytes = tag.own.peak_footprint_bytes = footprint;
    tag.total = tag.own;
    tags.push_back(tag);
    return tags.back();
  }

  // The size of the frame's rows into its head, and its seal.
  std::string frame_bytes(uint64_t sequence) {
    frame.tag_count = static_cast<uint32_t>(tags.size());
    frame.class_count = static_cast<uint32_t>(classes.size());
    frame.range_count = static_cast<uint32_t>(ranges.size());
    frame.names_bytes = static_cast<uint32_t>(names.size());
    frame.bytes = sizeof frame + tags.size() * sizeof(record::TagRow) +
                  classes.size() * sizeof(record::ClassRow) + ranges.size() * sizeof(record::Range);
    frame.seal.sequence = sequence;
    std::string bytes(reinterpret_cast<const char*>(&frame), sizeof frame);
    append(&bytes, tags);
    append(&bytes, classes);
    append(&bytes, ranges);
    seal(bytes.data(), bytes.size(), sequence);
    return bytes;
  }

  uint32_t add_text(const std::string& text) {
    texts += text + '\0';
    return static_cast<uint32_t>(texts.size() - text.size() - 1);
  }

  // The index of the module, call or site.
  uint32_t add_module(const std::string& path, uint64_t start, uint64_t end, uint64_t bias,
                      const std::string& build_id = "") {
    record::Module module = {start, end, bias, add_text(path), uint32_t(build_id.size()), {}};
    memcpy(module.build_id, build_id.data(), build_id.size());
    modules.push_back(module);
    return static_cast<uint32_t>(modules.size() - 1);
  }
  uint32_t add_call(uint32_t caller, uint64_t address, uint32_t module) {
    calls.push_back({address, caller, module});
    return static_cast<uint32_t>(calls.size() - 1);
  }
  uint32_t add_site(uint32_t call, const std::string& tag, record::Amount live,
                    record::Amount allocated = {}) {
    record::Site site = {};
    site.call = call;
    site.tag = add_text(tag);
    site.live = live;
    site.allocated = allocated.objects == 0 ? live : allocated;
    sites.push_back(site);
    return static_cast<uint32_t>(sites.size() - 1);
  }

  // The size of the rows into the head, and its seal.
  std::string profile_bytes(uint64_t sequence) {
    profile.call_count = static_cast<uint32_t>(calls.size());
    profile.module_count = static_cast<uint32_t>(modules.size());
    profile.texts_bytes = static_cast<uint32_t>(texts.size());
    profile.site_count = static_cast<uint32_t>(sites.size());
    profile.sample_count = static_cast<uint32_t>(samples.size());
    profile.bytes = sizeof profile + sites.size() * sizeof(record::Site) +
                    samples.size() * sizeof(record::Sample);
    std::string bytes(reinterpret_cast<const char*>(&profile), sizeof profile);
    append(&bytes, sites);
    append(&bytes, samples);
    seal(bytes.data(), bytes.size(), sequence);
    return bytes;
  }

  static void seal(void* piece, size_t bytes, uint64_t sequence) {
    record::Seal seal = {sequence, record::seal_of(piece, bytes, sequence)};
    memcpy(piece, &seal, sizeof seal);
  }

  // The head, as it is now.
  std::string head_bytes() {
    const char* from = reinterpret_cast<const char*>(&head);
    constexpr size_t kSealed = offsetof(record::Head, file_bytes);
    head.checksum = record::checksum(0, from + kSealed, sizeof head - kSealed);
    return {from, sizeof head};
  }

  // The whole file with one frame and one profile, in their places by the sequence.
  std::string bytes(uint64_t sequence = 1) {
    std::string all(record::kFileBytes, 0);
    put(&all, 0, head_bytes());
    put(&all, record::kAtFrame[sequence % 2], frame_bytes(sequence));
    put(&all, record::kAtNames, names);
    if (profile.rate == 0) return all;
    put(&all, record::kAtTexts, texts);
    put(&all, record::kAtModules, rows_of(modules));
    put(&all, record::kAtCalls, rows_of(calls));
    put(&all, record::kAtProfile[sequence % 2], profile_bytes(sequence));
    return all;
  }

  template <class Row>
  static std::string rows_of(const std::vector<Row>& rows) {
    std::string bytes;
    append(&bytes, rows);
    return bytes;
  }

  static void put(std::string* all, uint64_t offset, const std::string& bytes) {
    all->replace(offset, bytes.size(), bytes);
  }

  static void write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

 private:
  template <class Row>
  static void append(std::string* bytes, const std::vector<Row>& rows) {
    bytes->append(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(Row));
  }
  static std::string parent_of(const std::string& path) {
    size_t slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
  }
  uint32_t id_of(const std::string& path) const {
    for (const record::TagRow& tag : tags) {
      if (names.c_str() + tag.name == path) return tag.id;
    }
    return 0;
  }
};

// A writer that lives: holds the lock on a file.
class WriterLock {
 public:
  explicit WriterLock(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    flock(file_, LOCK_EX);
  }
  ~WriterLock() { close(file_); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  int file_;
};

}  // namespace tally::test
