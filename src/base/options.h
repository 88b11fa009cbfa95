// What the user may set. Plain data, so that every layer can read it; runtime/options.cpp fills it
// from the environment before main. Until then the defaults hold.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

inline constexpr size_t kOptionPathMax = 512;

enum class HugePages : uint8_t { kNever, kAuto, kAlways };
// The record (record/layout.h): whether there is one, and whether it stays after the end.
enum class Record : uint8_t { kNo, kYes, kKeep };
// What names the tag of memory for which neither an argument nor a scope does.
enum class TagBy : uint8_t { kNone, kModule, kThread };
// As the option spells it.
constexpr const char* name_of(TagBy rule) {
  return rule == TagBy::kModule ? "module" : rule == TagBy::kThread ? "thread" : "none";
}

struct Options {
  bool abort_conf = false;     // end with EX_CONFIG where an option cannot be followed
  const char* backend = "os";  // one of backend::find
  bool abort_on_corruption = true;
  bool check = false;  // walk each free list whole as it is handed over
  uint32_t purge_ms = 1000;
  int dump_signal = 0;  // 0: none
  char dump_path[kOptionPathMax] = "/tmp/tally-%p.json";
  char log_path[kOptionPathMax] = "";  // of lines about limits; empty: stderr
  Record record = Record::kNo;
  uint32_t record_ms = 0;  // between publications by a thread of Tally's; 0: there is none
  TagBy tag_by = TagBy::kNone;
  char tags_path[kOptionPathMax] = "";  // of rules for that; empty: none
  HugePages thp = HugePages::kNever;
  uint64_t sample = 0;         // bytes between samples in the mean; 0: none are taken
  uint32_t guard = 0;          // of so many samples one is guarded; 0: none is
  size_t reserve = 64 * 1024;  // of a limit, for who unwinds from a failure; at most 1/16 of it
  bool zero = false;           // hardened: of what is freed all is zeroed
  bool report = false;         // at exit
  int64_t report_pid = 0;      // of this process alone; 0: of each
  char report_path[kOptionPathMax] = "";  // empty: a table on stderr
};

extern constinit Options options;

}  // namespace tally::core
