#include "summary.h"

#include <ctime>

#include "process.h"
#include "text.h"

namespace tally::tool {

std::string state_of(const Record& record) {
  if (record.is_dump) return "dump";
  if (!record.is_live) return record.frame_head().is_last == 1 ? "ended" : "dead";
  auto status = process_status(record.head.pid);
  bool is_stopped = status && (status->state == 'T' || status->state == 't');
  return is_stopped ? "stopped" : "running";
}

uint64_t age_of(const Record& record) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t at = record.frame_head().time;
  int64_t ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  return at < 0 || at > ns ? 0 : static_cast<uint64_t>(ns - at);
}

std::string heading(const Record& record) {
  std::string line = "process " + std::to_string(record.head.pid) + ", " + state_of(record);
  line += ", as of " + format_duration(age_of(record)) + " ago";
  const std::string command = command_of(record.head);
  return shortened(line + (command.empty() ? "" : ": " + command), 200) + "\n";
}

std::string process_name(const Record& record) {
  std::string_view command = text_of(record.head.command);
  if (command.empty()) command = text_of(record.head.executable);
  return shortened(printable(command.substr(command.rfind('/') + 1)), 40);
}

const char* pressure_name(uint32_t level) {
  return level == TALLY_PRESSURE_HARD ? "hard" : level == TALLY_PRESSURE_SOFT ? "soft" : "normal";
}

tally_counts totals(const Record& record) {
  tally_counts sum = {};
  for (const record::TagRow& tag : record.tags()) {
    if (record.name(tag) == "/") return tag.total;
    sum.live_bytes += tag.own.live_bytes;
    sum.live_blocks += tag.own.live_blocks;
    sum.footprint_bytes += tag.own.footprint_bytes;
  }
  return sum;
}

}  // namespace tally::tool
