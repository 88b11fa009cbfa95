#include "post_mortem.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "failure.h"
#include "leak_report.h"
#include "ledger_parts.h"
#include "record.h"
#include "record_reader.h"
#include "summary.h"
#include "symbols.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr size_t kTagsShown = 10;
constexpr size_t kEventsShown = 5;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kGrowthSpan = 5 * 60 * kSecond;  // what one would call the last minutes

// "SIGSEGV (Segmentation fault)".
std::string name_of(int signal) {
  const char* name = sigabbrev_np(signal);
  if (name == nullptr) return "signal " + std::to_string(signal);
  return std::string("SIG") + name + " (" + sigdescr_np(signal) + ")";
}

std::string before(int64_t time, int64_t end) {
  return format_duration(static_cast<uint64_t>(std::max<int64_t>(end - time, 0)));
}

// What was held some minutes before.
class Past {
 public:
  Past(Reader& reader, const Record& record, int64_t end) {
    for (const record::Point& point : reader.points(Reader::Ring::kRecent, record)) {
      const bool is_within = point.time >= end - kGrowthSpan && point.time <= end - kSecond;
      if (is_within && (!point_ || point.time < point_->time)) point_ = point;
    }
    if (!point_) return;
    for (uint32_t i = 0; i < point_->tag_count; ++i) {
      footprints_.emplace(record.name(point_->tags[i].name),
                          int64_t{point_->tags[i].footprint_kib} * 1024);
    }
  }

  // None: the program did not run that long.
  const std::optional<record::Point>& point() const { return point_; }

  // A tag that is not there was small, or was not yet.
  int64_t growth(std::string_view tag, uint64_t footprint) const {
    auto at = footprints_.find(tag);
    return static_cast<int64_t>(footprint) - (at == footprints_.end() ? 0 : at->second);
  }

 private:
  std::optional<record::Point> point_;
  std::unordered_map<std::string_view, int64_t> footprints_;  // of the record's names
};

std::string tags_of(const Record& record, const Past& past, int64_t end) {
  std::vector<const record::TagRow*> tags;
  for (const record::TagRow& tag : record.tags()) tags.push_back(&tag);
  std::sort(tags.begin(), tags.end(), [](const record::TagRow* a, const record::TagRow* b) {
    return a->own.footprint_bytes > b->own.footprint_bytes;
  });
  std::vector<Table::Column> columns = {{"TAG", Table::Align::kLeft},
                                        {"LIVE", Table::Align::kRight, true},
                                        {"FOOTPRINT", Table::Align::kRight, true},
                                        {"WITH ALL BELOW", Table::Align::kRight, true}};
  if (past.point()) {
    columns.push_back({"GREW IN " + before(past.point()->time, end), Table::Align::kRight, true});
  }
  Table table(columns);
  for (size_t i = 0; i < std::min(tags.size(), kTagsShown); ++i) {
    const record::TagRow& tag = *tags[i];
    const std::string_view name = record.name(tag);
    std::vector<std::string> row = {printable(name), format_bytes(tag.own.live_bytes),
                                    format_bytes(tag.own.footprint_bytes),
                                    format_bytes(tag.total.footprint_bytes)};
    if (past.point()) row.push_back(format_signed(past.growth(name, tag.own.footprint_bytes)));
    table.add(row);
  }
  std::string text = table.text();
  if (tags.size() > kTagsShown) {
    text += "... and " + std::to_string(tags.size() - kTagsShown) + " smaller tags\n";
  }
  return text;
}

std::string limits_of(const record::Event& event) {
  std::string text;
  if (event.hard != TALLY_LIMIT_NONE) text += ", limit " + format_bytes(event.hard);
  if (event.soft != TALLY_LIMIT_NONE) text += ", soft limit " + format_bytes(event.soft);
  return text;
}

std::string what_happened(const record::Event& event) {
  std::string asked = "was refused " + format_bytes(event.asked);
  switch (event.kind) {
    case record::EventKind::kSoft:
      return "is above its soft limit";
    case record::EventKind::kFailed:
      return asked;
    case record::EventKind::kWaits:
      return asked + " for now: a thread waits";
    case record::EventKind::kAborts:
      return asked + ", which ends the program";
    case record::EventKind::kLimitSet:
      return "was limited from outside";
  }
  return "did what this tally does not know";
}

std::string events_of(Reader& reader, int64_t end) {
  const std::vector<record::Event> events = reader.events();
  std::string text;
  for (size_t i = events.size() - std::min(events.size(), kEventsShown); i < events.size(); ++i) {
    const record::Event& event = events[i];
    text += "limit, " + before(event.time, end) + " before: ";
    text += printable(text_of(event.tag)) + " " + what_happened(event);
    text += ": holds " + format_bytes(event.held) + limits_of(event) + "\n";
  }
  return text;
}

std::string record_path(pid_t pid) {
  return record::kFolderPrefix + std::to_string(geteuid()) + "/" + std::to_string(pid) +
         record::kSuffix;
}

Reader open_record_of(const Ending& ending, const std::string& file) {
  Reader reader(file);
  // Of a process that had the same id.
  if (reader.head().created < ending.started) {
    throw Failure(kFailed, file + ": is of a process before it");
  }
  return reader;
}

}  // namespace

std::string post_mortem_of(const std::string& record_file, const Ending& ending) {
  Reader reader = open_record_of(ending, record_file);
  const Record record = reader.read();
  if (record.frame_head().is_last != 0) return "";
  const int64_t time = record.frame_head().time;
  const Past past(reader, record, time);
  std::string text = "as of " + before(time, ending.ended) + " before: " + ledger_line(record);
  text += hint_at_others(ledger_parts(record.ledger()), record.ledger().rss);
  return text + tags_of(record, past, time) + events_of(reader, ending.ended);
}

void print_post_mortem(const Ending& ending, FILE* out) {
  const bool is_oom = WTERMSIG(ending.status) == SIGKILL && ending.oom_kills != 0;
  fprintf(out, "tally: process %d was ended by %s%s%s\n", static_cast<int>(ending.pid),
          name_of(WTERMSIG(ending.status)).c_str(), WCOREDUMP(ending.status) ? ", core dumped" : "",
          is_oom ? ", it seems for want of memory: the kernel's OOM killer was at work" : "");
  try {
    const std::string file = record_path(ending.pid);
    fputs(post_mortem_of(file, ending).c_str(), out);
    fprintf(out, "its record is kept, and `tally stat %s` tells more\n", file.c_str());
  } catch (const Failure& failure) {
    fprintf(out, "no record of it: %s\n", failure.what());
  }
}

void print_leaks(const Ending& ending, bool keep, FILE* out) {
  const std::string file = record_path(ending.pid);
  try {
    Reader reader = open_record_of(ending, file);
    const Record record = reader.read();
    const Profile profile = require_profile(reader);
    Symbols symbols(profile);
    const std::string report = leak_report(record, profile, symbols, "/", {});
    fprintf(out, "%s%s", heading(record).c_str(), report.c_str());
    print_complaints(symbols, "tally", out);
    if (!keep) unlink(file.c_str());
  } catch (const Failure& failure) {
    fprintf(out, "tally: what was not freed is not known: %s\n", failure.what());
  }
}

bool print_silent_end(const Ending& ending, bool keep, FILE* out) {
  try {
    const std::string file = record_path(ending.pid);
    const std::string text = post_mortem_of(file, ending);
    if (text.empty()) return false;
    if (out != nullptr) {
      fprintf(out, "tally: process %d ended without a report, by _exit or the like\n%s",
              static_cast<int>(ending.pid), text.c_str());
    }
    if (!keep) unlink(file.c_str());
    return out != nullptr;
  } catch (const Failure&) {
    return false;  // it ended as most do, and its record with it
  }
}

}  // namespace tally::tool
