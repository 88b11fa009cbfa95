// An input is a list of changes to a record that was written as the library writes it: which piece,
// where, and what stands there instead; the piece's seal is made anew, unless the input says not.
// Whatever comes of that, each command of `tally` shows it or refuses it in words.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>

#include "../tool/record_file.hpp"
#include "record/layout.h"
#include "tool.hpp"

namespace tally::fuzz {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr int64_t kSecond = 1'000'000'000;

// A piece of the file, as it was written.
struct Piece {
  uint64_t at;
  std::string bytes;
  size_t begins;  // what is sealed, from its seal on; npos: nothing is
};
constexpr size_t kNoSeal = std::string::npos;

class Sample : public test::RecordFile {
 public:
  Sample() {
    add_tag("/", 0, kMiB);
    add_tag("/cache", 3 * kMiB, 4 * kMiB).hard_limit = 8 * kMiB;
    add_tag("/cache/blocks", kMiB, 2 * kMiB).soft_limit = kMiB;
    add_tag("/lib/libssl.so.3", 640, 65536).pressure = TALLY_PRESSURE_SOFT;
    add_tag("/tally", 4096, 4096);
    classes = {{1, 64, 1000, 1024, 65536, 5000, 300000, 1, {0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0, 0},
               {2, 4096, 16, 64, 262144, 100, 400000, 4, {1, 2, 0, 0, 0, 1}, 3, 131072}};
    ranges = {{0x7f0000000000, 0x7f0000400000}};
    frame.uptime = uint64_t{100} * kSecond;
    frame.ledger.rss = 20 * kMiB;
    frame.ledger.live = 4 * kMiB;
    head.created = frame.time - 100 * kSecond;
    profile.rate = 65536;
    profile.time = frame.time;
    profile.begun = head.created;
    profile.mark_time = profile.time - 60 * kSecond;
    profile.peak_time = profile.time - 10 * kSecond;
    const uint32_t program = add_module("/fuzz/server", 0x1000, 0x9000, 0x1000, "0123456789");
    const uint32_t library = add_module("/fuzz/libfuzz.so", 0x20000, 0x30000, 0x20000);
    const uint32_t outer = add_call(0, 0x1234, program);
    const uint32_t inner = add_call(outer, 0x20456, library);
    const uint32_t jit = add_call(outer, 0x77777, record::kNoModule);
    add_site(inner, "/cache", {100, 3 * kMiB}, {1000, 30 * kMiB});
    add_site(jit, "/cache/blocks", {10, kMiB});
    add_site(0, "/", {1, 64});
    sites[0].lifetimes[3] = 900;
    sites[1].peak = {20, 2 * kMiB};
    sites[2].mark = {1, 32};
    samples = {{0, 7, 65536, 65000, profile.time - 50 * kSecond},
               {1, 8, 4096, 4096, profile.time - kSecond}};
  }

  // The places that have something in them.
  std::vector<Piece> pieces() {
    std::vector<Piece> all = {{0, head_bytes(), kNoSeal},
                              {record::kAtFrame[0], frame_bytes(2), 0},
                              {record::kAtFrame[1], frame_bytes(1), 0},
                              {record::kAtNames, names, kNoSeal},
                              {record::kAtTexts, texts, kNoSeal},
                              {record::kAtModules, rows_of(modules), kNoSeal},
                              {record::kAtCalls, rows_of(calls), kNoSeal},
                              {record::kAtProfile[0], profile_bytes(2), 0},
                              {record::kAtProfile[1], profile_bytes(1), 0}};
    for (uint64_t n = 1; n <= 8; ++n) {
      all.push_back({record::kAtMinutes + n * sizeof(record::Point), point(n), 0});
      all.push_back({record::kAtRecent + n * sizeof(record::Point), point(n), 0});
    }
    for (uint64_t n = 1; n <= 3; ++n) {
      all.push_back({record::kAtEvents + n * sizeof(record::Event), event(n), 0});
    }
    all.push_back({record::kAtNames + record::kNamesBytes, since(names), kNoSeal});
    all.push_back({record::kAtTexts + record::kNamesBytes, since(texts), kNoSeal});
    return all;
  }

 private:
  static std::string since(const std::string& names) {
    return std::string((names.size() / record::kNameCell + 1) * sizeof(uint64_t), 0);
  }
  std::string point(uint64_t n) const {
    record::Point point = {};
    point.frame = 1;
    point.time = frame.time - int64_t(10 - n) * 5 * kSecond;
    point.rss = 20 * kMiB;
    point.live = n * kMiB;
    point.footprint = 2 * n * kMiB;
    point.tag_count = 2;
    point.tags[0] = {tags[1].name, uint32_t(n) * 1024, 4096};
    point.tags[1] = {tags[2].name, 512, 1024};
    seal(&point, sizeof point, n);
    return {reinterpret_cast<const char*>(&point), sizeof point};
  }
  std::string event(uint64_t n) const {
    record::Event event = {};
    event.time = frame.time - int64_t(10 - n) * kSecond;
    event.kind = record::EventKind(n);
    strcpy(event.tag, names.c_str() + tags[1].name);
    event.held = event.hard = kMiB;
    event.soft = TALLY_LIMIT_NONE;
    seal(&event, sizeof event, n);
    return {reinterpret_cast<const char*>(&event), sizeof event};
  }
};

// The file, with one piece or several other than they were; as it was again at the end.
class Record {
 public:
  Record() : pieces_(Sample().pieces()) {
    file_.resize(record::kFileBytes);
    for (const Piece& piece : pieces_) file_.write_at(piece.at, piece.bytes);
  }
  std::string path() const { return file_.path(); }
  size_t count() const { return pieces_.size(); }

  void change(Input* input) {
    const size_t index = input->below(pieces_.size());
    std::string& bytes = changed_.try_emplace(index, pieces_[index].bytes).first->second;
    if (bytes.empty()) return;
    // By words, or anywhere.
    const unsigned how = input->byte();
    size_t at = input->number(2);
    if (how % 2 == 0) at *= 4;
    at %= bytes.size();
    const size_t length = std::min<size_t>(1 + how / 2 % 16, bytes.size() - at);
    const std::string text = input->text(length);
    bytes.replace(at, text.size(), text);
  }
  void cut(uint64_t bytes) { cut_ = bytes; }
  void write(bool seals) {
    for (auto& [index, bytes] : changed_) {
      if (seals) seal(index, &bytes);
      file_.write_at(pieces_[index].at, bytes);
    }
    if (cut_ != 0) file_.resize(cut_ % record::kFileBytes);
  }
  void write_back() {
    file_.resize(record::kFileBytes);
    const bool all = cut_ != 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (all || changed_.contains(i)) file_.write_at(pieces_[i].at, pieces_[i].bytes);
    }
    changed_.clear();
    cut_ = 0;
  }

 private:
  void seal(size_t index, std::string* bytes) {
    if (index == 0) {
      record::Head head;
      memcpy(&head, bytes->data(), sizeof head);
      constexpr size_t kSealed = offsetof(record::Head, file_bytes);
      head.checksum = record::checksum(0, bytes->data() + kSealed, sizeof head - kSealed);
      memcpy(bytes->data(), &head, sizeof head);
    }
    if (pieces_[index].begins == kNoSeal) return;
    uint64_t sequence;
    memcpy(&sequence, bytes->data(), sizeof sequence);
    // A frame or a profile is sealed as far as it says itself.
    const bool says = index >= 1 && pieces_[index].at < record::kAtNames;
    const bool is_profile = pieces_[index].at >= record::kAtProfile[0];
    size_t size = bytes->size();
    if (says || is_profile) {
      uint64_t said;
      memcpy(&said, bytes->data() + sizeof(record::Seal), sizeof said);
      const size_t room = is_profile ? record::kProfileBytes : record::kFrameBytes;
      if (said >= size && said <= room && said % 8 == 0) bytes->resize(size = size_t(said));
    }
    test::RecordFile::seal(bytes->data(), size, sequence);
  }

  std::vector<Piece> pieces_;
  std::map<size_t, std::string> changed_;
  uint64_t cut_ = 0;
  MemoryFile file_;
};

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& record = *new tally::fuzz::Record;  // for as long as there is anybody
  tally::fuzz::Input input(data, size);
  const unsigned way = input.byte(), how = input.byte();
  if (how % 64 == 1) record.cut(1 + input.number(3));
  while (!input.is_empty()) record.change(&input);
  record.write(how % 8 != 2);
  run_tool(tally::fuzz::shown(record.path(), way));
  record.write_back();
  return 0;
}
