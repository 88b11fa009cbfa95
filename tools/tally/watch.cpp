#include "watch.h"

#include <cstdio>

#include "fragmentation.h"
#include "process.h"
#include "summary.h"
#include "text.h"
#include "top_rows.h"

namespace tally::tool {
namespace {

uint64_t sequence_of(const Record& record) { return record.frame_head().seal.sequence; }

}  // namespace

Watch::Watch(Reader reader) : reader_(std::move(reader)), now_(reader_.read()) {
  // Where it is missing, or the process was quick, what changed is told a frame later.
  has_before_ = reader_.read_before(&before_) && sequence_of(before_) < sequence_of(now_);
  read_rest();
}

void Watch::refresh() {
  reader_.read(&next_);
  if (sequence_of(next_) == sequence_of(now_)) {
    now_.is_live = next_.is_live;
  } else {
    std::swap(before_, now_);
    std::swap(now_, next_);
    has_before_ = true;
  }
  read_rest();
}

void Watch::read_rest() {
  points_ = reader_.points(Reader::Ring::kRecent, now_);
  auto status = now_.is_live ? process_status(now_.head.pid) : std::nullopt;
  rss_ = status && status->rss != 0 ? status->rss : now_.ledger().rss;
}

std::pair<std::string, std::string> Watch::summary() const {
  std::string first = heading(now_);
  first.pop_back();  // its end of line
  const Held heap = held(now_);
  std::string second = "RSS " + format_bytes(rss_) + ", live " + format_bytes(heap.live) +
                       ", footprint " + format_bytes(heap.footprint);
  if (heap.live != 0) {
    char text[64];
    snprintf(text, sizeof text, ", fragmentation %.2f", double(heap.footprint) / double(heap.live));
    second += text;
  }
  for (const record::TagRow& tag : now_.tags()) {
    auto limit = now_.name(tag) == "/" ? limit_of(tag) : std::nullopt;
    if (limit) second += ", limit " + format_bytes(limit->limit);
  }
  return {first, second};
}

}  // namespace tally::tool
