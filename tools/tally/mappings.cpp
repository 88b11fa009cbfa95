#include "mappings.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>
#include <sstream>
#include <vector>

#include "process.h"
#include "record_reader.h"

namespace tally::tool {
namespace {

struct Mapping {
  uint64_t start = 0, end = 0;
  char rights[5] = "";
  std::string name;  // a path, [stack], ...; empty of anonymous ones
  uint64_t rss = 0;
  uint64_t anonymous = 0;  // of rss: in no file
};

std::vector<Mapping> parse(const std::string& smaps) {
  std::vector<Mapping> mappings;
  std::istringstream lines(smaps);
  for (std::string line; std::getline(lines, line);) {
    unsigned long long start, end, kib;
    Mapping mapping;
    int at = 0;
    // "start-end rights offset device inode   name", and then lines as "Rss:    4 kB".
    if (sscanf(line.c_str(), "%llx-%llx %4s %*s %*s %*s %n", &start, &end, mapping.rights, &at) ==
        3) {
      mapping.start = start;
      mapping.end = end;
      if (at != 0) mapping.name = line.substr(static_cast<size_t>(at));
      mappings.push_back(mapping);
    } else if (!mappings.empty() && sscanf(line.c_str(), "Rss: %llu", &kib) == 1) {
      mappings.back().rss = kib * 1024;
    } else if (!mappings.empty() && sscanf(line.c_str(), "Anonymous: %llu", &kib) == 1) {
      mappings.back().anonymous = kib * 1024;
    }
  }
  return mappings;
}

// The bytes of a mapping that lie in the ranges.
uint64_t overlap(const Mapping& mapping, std::span<const record::Range> ranges) {
  uint64_t bytes = 0;
  for (const record::Range& range : ranges) {
    uint64_t start = std::max(mapping.start, range.start), end = std::min(mapping.end, range.end);
    if (start < end) bytes += end - start;
  }
  return std::min(bytes, mapping.end - mapping.start);
}

// Bytes of [start, end) whose pages are in memory, by a process's pagemap.
std::optional<uint64_t> present_in(int pagemap, uint64_t start, uint64_t end) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  constexpr uint64_t kPresent = uint64_t{1} << 63;
  std::vector<uint64_t> entries(65536);
  uint64_t bytes = 0;
  for (uint64_t first = start / page; first < end / page;) {
    const uint64_t count = std::min<uint64_t>(entries.size(), end / page - first);
    const ssize_t got = pread(pagemap, entries.data(), count * 8, static_cast<off_t>(first * 8));
    if (got <= 0) return std::nullopt;
    for (ssize_t i = 0; i < got / 8; ++i) bytes += (entries[size_t(i)] & kPresent) != 0 ? page : 0;
    first += static_cast<uint64_t>(got) / 8;
  }
  return bytes;
}

class Sorter {
 public:
  Sorter(std::vector<Mapping> mappings, std::span<const record::Range> heap, PresentIn present)
      : mappings_(std::move(mappings)), heap_(heap), present_(std::move(present)) {
    for (const Mapping& mapping : mappings_) {
      if (mapping.rights[2] == 'x' && is_file(mapping)) programs_.insert(mapping.name);
    }
  }

  Resident sort() {
    for (size_t i = 0; i < mappings_.size(); ++i) {
      const Mapping& mapping = mappings_[i];
      sum_.total += mapping.rss;
      uint64_t heap = std::min(mapping.rss, ours_in(mapping));
      sum_.heap += heap;
      if (mapping.rss > heap) put(i, mapping.rss - heap);
    }
    return sum_;
  }

 private:
  // The kernel joins neighbours, ours and others': then only its table of pages tells them apart.
  // Where that may not be read all counts as ours, up to our part.
  uint64_t ours_in(const Mapping& mapping) const {
    uint64_t ours = overlap(mapping, heap_);
    if (ours == 0 || ours == mapping.end - mapping.start) return ours;
    uint64_t bytes = 0;
    for (const record::Range& range : heap_) {
      uint64_t start = std::max(mapping.start, range.start), end = std::min(mapping.end, range.end);
      if (start >= end) continue;
      std::optional<uint64_t> present = present_(start, end);
      if (!present) return ours;
      bytes += *present;
    }
    return bytes;
  }
  static bool is_file(const Mapping& mapping) { return mapping.name.starts_with('/'); }
  static bool is_shared_memory(const Mapping& mapping) {
    return mapping.rights[3] == 's' &&
           (!is_file(mapping) || mapping.name.starts_with("/dev/shm/") ||
            mapping.name.starts_with("/memfd:") || mapping.name.starts_with("/SYSV") ||
            mapping.name.starts_with("/dev/zero"));
  }

  void put(size_t i, uint64_t rss) {
    const Mapping& mapping = mappings_[i];
    if (is_shared_memory(mapping)) {
      sum_.shared += rss;
    } else if (programs_.contains(mapping.name)) {
      uint64_t data = std::min(mapping.anonymous, rss);
      sum_.data += data;
      sum_.code += rss - data;
    } else if (is_file(mapping)) {
      sum_.files += rss;
    } else if (mapping.name == "[heap]") {
      sum_.brk += rss;
    } else if (mapping.name == "[stack]" || is_stack(i)) {
      sum_.stacks += rss;
    } else if (is_data(i)) {
      sum_.data += rss;
    } else {
      sum_.others += rss;
    }
  }

  bool follows(size_t i) const { return i != 0 && mappings_[i - 1].end == mappings_[i].start; }

  // A thread's: anonymous, above a guard that nobody may touch and that is much smaller.
  bool is_stack(size_t i) const {
    if (!follows(i) || !mappings_[i].name.empty()) return false;
    const Mapping& guard = mappings_[i - 1];
    uint64_t size = mappings_[i].end - mappings_[i].start;
    bool is_guard = memcmp(guard.rights, "---p", 4) == 0 && guard.name.empty();
    return is_guard && guard.end - guard.start <= size / 2 && overlap(guard, heap_) == 0;
  }

  // Behind a program's or library's own data: what it has beyond its file.
  bool is_data(size_t i) const {
    return follows(i) && mappings_[i].name.empty() && programs_.contains(mappings_[i - 1].name);
  }

  std::vector<Mapping> mappings_;
  std::span<const record::Range> heap_;
  PresentIn present_;
  std::set<std::string> programs_;  // files of which some part is executable
  Resident sum_;
};

}  // namespace

Resident read_smaps(const std::string& smaps, std::span<const record::Range> heap,
                    const PresentIn& present) {
  return Sorter(parse(smaps), heap, present).sort();
}

std::optional<Resident> resident_of(long pid, std::span<const record::Range> heap) {
  const std::string smaps = read_proc(pid, "smaps");
  if (smaps.empty()) return std::nullopt;
  const File pages(
      open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  return read_smaps(smaps, heap, [&](uint64_t start, uint64_t end) {
    return present_in(pages.descriptor(), start, end);
  });
}

}  // namespace tally::tool
