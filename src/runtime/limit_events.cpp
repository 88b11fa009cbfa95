// What happens at limits, told in lines, to TALLY_LOG, else to stderr, and in the record.
#include <atomic>

#include "base/math.h"
#include "base/options.h"
#include "base/text.h"
#include "heap/relief.h"
#include "os/os.h"
#include "record/writer.h"
#include "runtime/recorder.h"
#include "runtime/report.h"
#include "stats/render.h"
#include "stats/walk.h"
#include "tag/tag.h"

namespace tally::core {
namespace {

// Of each tag and kind of event, a line in so many ms.
constexpr uint64_t kQuietMs = 1000;
// And of all tags together so many.
constexpr uint32_t kMostLines = 20;
constinit std::atomic<uint64_t> g_since{0};
constinit std::atomic<uint32_t> g_lines{0};

bool is_flood(uint64_t now) {
  uint64_t since = g_since.load(std::memory_order_relaxed);
  if (now - since >= kQuietMs &&
      g_since.compare_exchange_strong(since, now, std::memory_order_relaxed)) {
    g_lines.store(0, std::memory_order_relaxed);
  }
  return g_lines.fetch_add(1, std::memory_order_relaxed) >= kMostLines;
}

// Whether it is time for a line, and how many events there were since the last without one.
bool may_write(Limit& limit, LimitEvent::Kind kind, uint64_t* left_out) {
  std::atomic<uint64_t>& logged_ms = limit.logged_ms[kind];
  uint64_t now = os::now_ms() + 1;  // 0 is never
  uint64_t last = logged_ms.load(std::memory_order_relaxed);
  bool is_time = last == 0 || now - last >= kQuietMs;
  if (!is_time || is_flood(now) ||
      !logged_ms.compare_exchange_strong(last, now, std::memory_order_relaxed)) {
    limit.not_logged.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *left_out = limit.not_logged.exchange(0, std::memory_order_relaxed);
  return true;
}

void put_limit(TextWriter& out, const char* name, uint64_t limit) {
  if (limit == Account::kNoLimit) return;
  out.put(name);
  put_bytes(out, limit);
}

const char* name_of(LimitEvent::Kind kind) {
  switch (kind) {
    case LimitEvent::kSoft:
      return " is above its soft limit";
    case LimitEvent::kFailed:
      return " may have no more";
    case LimitEvent::kWaits:
      return " may have no more, and a thread waits";
    case LimitEvent::kAborts:
      return " may have no more, and the program ends";
  }
  return "";
}

record::EventKind kind_of(LimitEvent::Kind kind) {
  switch (kind) {
    case LimitEvent::kSoft:
      return record::EventKind::kSoft;
    case LimitEvent::kFailed:
      return record::EventKind::kFailed;
    case LimitEvent::kWaits:
      return record::EventKind::kWaits;
    case LimitEvent::kAborts:
      break;
  }
  return record::EventKind::kAborts;
}

void put_line(TextWriter& out, const LimitEvent& event, uint64_t left_out) {
  const Tag& tag = *event.tag;
  const uint64_t held = tag.account().held(), hard = tag.account().limit();
  out.put("tally: limit: ").put(tag.name).put(name_of(event.kind));
  if (event.asked != 0) put_bytes(out.put(": asked "), event.asked);
  put_bytes(out.put(event.asked != 0 ? ", holds " : ": holds "), held);
  put_limit(out, ", limit ", hard);
  const uint64_t ordinary = tag.account().ordinary_limit();
  if (ordinary != hard) put_bytes(out.put(" with a reserve of "), hard - ordinary);
  put_limit(out, ", soft limit ", tag.limit.soft.load(std::memory_order_relaxed));
  tally_stats_t stats;
  stats.size = sizeof stats;
  if (stats_of(tag.id, &stats) == 0) put_bytes(out.put(", live "), stats.total.live_bytes);
  out.put(", under pressure for ").number(pressure_ms_of(&tag)).put(" ms");
  if (event.asked != 0) {
    uint64_t after = held - min_of(held, trimmable_bytes(tag.id));
    after += round_up(event.asked, os::page_size());
    out.put(", would fit after a trim: ").put(after <= ordinary ? "yes" : "no");
  }
  if (left_out != 0) out.put(" (and ").number(left_out).put(" more since the last line)");
}

void write(const char* text, size_t length) {
  if (options.log_path[0] != 0) {
    if (os::append_file(options.log_path, text, length)) return;
    static constinit std::atomic<bool> was_said{false};
    if (!was_said.exchange(true)) complain_cannot("TALLY_LOG", "write", options.log_path);
  }
  os::write_all(program_stderr(), text, length);
}

bool write_on(void* /*unused*/, const char* text, size_t length) {
  write(text, length);
  return true;
}

void write_whole_report() {
  tally_snapshot_t* snapshot = take_snapshot();
  if (snapshot == nullptr) return;
  char buffer[1024];
  TextWriter out(buffer, sizeof buffer, write_on);
  render_table(*snapshot, out);
  render_classes(*snapshot, out);
  out.flush();
  free_snapshot(snapshot);
}

}  // namespace

void on_limit_event(const LimitEvent& event) {
  uint64_t left_out = 0;
  bool aborts = event.kind == LimitEvent::kAborts;
  if (!may_write(event.tag->limit, event.kind, &left_out) && !aborts) return;
  record::write_event(kind_of(event.kind), *event.tag, event.asked, left_out);
  char buffer[1024];
  TextWriter out(buffer, sizeof buffer - 1);
  put_line(out, event, left_out);
  size_t length = out.used();
  buffer[length++] = '\n';
  write(buffer, length);
  if (!aborts) return;
  record_now();
  write_whole_report();
  // A handler of SIGABRT may allocate.
  os::abort_process();
}

}  // namespace tally::core
