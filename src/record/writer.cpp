#include "record/writer.h"

#include <errno.h>
#include <string.h>

#include <atomic>

#include "backend/backend.h"
#include "base/math.h"
#include "base/options.h"
#include "memory/meta.h"
#include "os/file.h"
#include "os/libc.h"
#include "os/resident.h"
#include "record/file.h"
#include "record/frame.h"
#include "record/profile.h"
#include "record/request.h"
#include "sample/profile.h"
#include "stats/pages.h"
#include "stats/walk.h"
#include "tag/names.h"

namespace tally::record {

namespace os = core::os;
using core::TextWriter;

namespace {

static_assert(core::Names::kTextMost == kNamesBytes && core::Names::kCell == kNameCell);

// What is written is made here first: the file is never mapped. Taken once, and of it only what is
// used is ever touched.
struct Memory {
  alignas(4096) char names[core::Names::kBytes];
  alignas(4096) char frame[kFrameBytes];
  ProfileWriter::Memory profile;
};

constexpr size_t kMemoryBytes = core::round_up(sizeof(Memory), 65536);  // whatever a page is

constinit File g_file;
constinit Memory* g_memory = nullptr;
constinit core::SnapshotSpace g_space;
constinit core::Names g_names;
constinit ProfileWriter g_profile;
constinit uint64_t g_frames = 0, g_points = 0, g_minutes = 0;
constinit uint64_t g_minute_ns = 0;  // uptime of the last of those
constinit std::atomic<uint64_t> g_events{0};
constinit uint64_t g_requests = 0;  // sequence of the last that was served

template <class Piece>
void seal(Piece* piece, size_t bytes, uint64_t sequence) {
  piece->seal = {sequence, seal_of(piece, bytes, sequence)};
}

FrameHead* frame() { return reinterpret_cast<FrameHead*>(g_memory->frame); }

// Names come before what has their offsets.
int write_names() {
  return g_names.write_new([](const void* data, size_t bytes, size_t offset) {
    return g_file.write(data, bytes, kAtNames + offset);
  });
}

int write_point(const Point& point, uint64_t at_ring, uint64_t entries) {
  return g_file.write(&point, sizeof point, at_ring + point.seal.sequence % entries * sizeof point);
}

// Of the second, and once a minute of the minute.
int write_points(Point* point, uint64_t uptime) {
  constexpr uint64_t kMinute = uint64_t{60} * 1000000000;
  seal(point, sizeof *point, ++g_points);
  if (int error = write_point(*point, kAtRecent, kRecentPoints)) return error;
  if (g_minutes != 0 && uptime - g_minute_ns < kMinute) return 0;
  g_minute_ns = uptime;
  seal(point, sizeof *point, ++g_minutes);
  return write_point(*point, kAtMinutes, kMinutePoints);
}

void put_text(char* to, size_t capacity, const char* text) {
  const size_t length = core::min_of(strlen(text), capacity - 1);
  memcpy(to, text, length);
  to[length] = 0;
}

// In the frame's memory, as the stack may be small.
int write_head(const Terms& terms) {
  static_assert(sizeof(Head) <= kFrameBytes);
  auto* head = reinterpret_cast<Head*>(g_memory->frame);
  memset(head, 0, sizeof *head);
  head->version = kVersion;
  head->bytes = sizeof *head;
  head->file_bytes = kFileBytes;
  head->pid = g_file.pid();
  head->uid = os::user_id();
  head->page_size = static_cast<uint32_t>(os::page_size());
  head->created = static_cast<int64_t>(os::now_ns(os::Clock::kWall));
  head->interval_ms = terms.interval_ms;
  head->has_thread = terms.has_thread ? 1 : 0;
  put_text(head->tally_version, sizeof head->tally_version, tally_version());
  put_text(head->backend, sizeof head->backend, core::backend::selected()->name);
  put_text(head->tag_by, sizeof head->tag_by, core::name_of(core::options.tag_by));
  os::read_link("/proc/self/exe", head->executable, sizeof head->executable - 1);
  head->command_bytes = static_cast<uint32_t>(
      os::read_whole("/proc/self/cmdline", head->command, sizeof head->command));
  const size_t before = offsetof(Head, checksum) + sizeof head->checksum;
  head->checksum = checksum(0, g_memory->frame + before, sizeof *head - before);
  return g_file.write(head, sizeof *head, 0);
}

bool take_memory() {
  if (g_memory == nullptr) {
    g_memory = static_cast<Memory*>(core::meta::map(kMemoryBytes));
    return g_memory != nullptr;
  }
  // A fork may have come in the midst of a change to the names, so that they are not to be relied
  // on.
  static_assert(core::Names::kBytes % 65536 == 0, "whatever a page is");
  if (!os::purge(g_memory->names, core::Names::kBytes)) {
    memset(g_memory->names, 0, core::Names::kBytes);
  }
  return true;
}

void begin_anew() {
  g_names.lock.reset_after_fork();  // who held it in the parent is gone
  g_names.reset(g_memory->names);
  g_profile.reset(&g_memory->profile);
  g_frames = g_points = g_minutes = g_requests = 0;
  g_events.store(0, std::memory_order_relaxed);
}

core::Pages look_at_pages(const tally_snapshot_t& snapshot, core::Stretches* stretches) {
  uint64_t blocks = 0, bytes = 0;
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    blocks += snapshot.tags[i].own.large_live_blocks;
    bytes += snapshot.tags[i].own.large_live_bytes;
  }
  return core::look_at_pages(blocks, bytes, stretches);
}

void add_pages(const core::Pages& pages, Ledger* ledger) {
  ledger->untouched = pages.untouched;
  ledger->dirty = pages.dirty;
  ledger->kept = pages.kept;
  ledger->in_slabs += pages.ends;
}

// Models: of publication tests/model/pieces_model.cpp, of the turn and requests record_model.cpp.
int write_frame(const tally_snapshot_t& snapshot, const os::Resident& resident, uint64_t begun,
                bool is_last, Point* point) {
  FrameHead* head = frame();
  *head = {};
  char* end = pack_rows(snapshot, g_names, head);
  pack_point(snapshot, g_names, point);
  if (int error = write_names()) return error;
  head->names_bytes = g_names.used();
  head->ledger = ledger_of(snapshot);
  head->ledger.rss = resident.all;
  head->ledger.shared = resident.shared;
  head->ledger.recorder = os::resident_in(g_memory, kMemoryBytes) +
                          os::resident_in(g_space.start, g_space.bytes) +
                          core::profile.resident_bytes();
  auto* ranges = reinterpret_cast<core::Stretch*>(end);
  static_assert(sizeof(core::Stretch) == sizeof(Range));
  core::Stretches stretches(ranges, kRangesMax);
  add_pages(look_at_pages(snapshot, &stretches), &head->ledger);
  head->range_count = static_cast<uint32_t>(stretches.finish());
  head->ranges_left_out = static_cast<uint32_t>(stretches.left_out());
  head->bytes = static_cast<uint64_t>(end - g_memory->frame) + head->range_count * sizeof(Range);
  head->is_last = is_last ? 1 : 0;
  head->time = static_cast<int64_t>(os::now_ns(os::Clock::kWall));
  head->uptime = os::now_ns(os::Clock::kUptime);
  head->walk = head->uptime - begun;
  point->time = head->time;
  point->rss = resident.all;
  // In the place of the one before the last that was written: where this one fails, the next is no
  // other.
  const uint64_t sequence = g_frames + 1;
  point->frame = sequence;
  seal(head, head->bytes, sequence);
  if (int error = g_file.write(head, head->bytes, kAtFrame[sequence % 2])) return error;
  g_frames = sequence;
  g_names.publish();
  return 0;
}

int write_all(bool is_last) {
  const uint64_t begun = os::now_ns(os::Clock::kUptime);
  // Before the walk, which takes memory for itself.
  const os::Resident resident = os::resident();
  const tally_snapshot_t* snapshot = core::take_snapshot_in(&g_space);
  if (snapshot == nullptr) return 0;  // the next time, perhaps
  Point point;
  int error = write_frame(*snapshot, resident, begun, is_last, &point);
  if (error == 0) error = write_points(&point, frame()->uptime);
  if (error != 0) return error;
  error = g_profile.write(g_file);
  // It is the largest part: where there is no room for it the rest goes on without.
  return error == ENOSPC ? 0 : error;
}

}  // namespace

bool start(const char* folder, const Terms& terms, TextWriter& why) {
  if (!take_memory()) {
    why.put("there is no memory for it");
    return false;
  }
  begin_anew();
  if (!g_file.create(folder, why)) return false;
  os::keep_resident_at_hand();
  int error = write_head(terms);
  if (error == 0) error = write_all(false);
  // Whoever finds the file before this knows that it is being made.
  if (error == 0) error = g_file.write(kMagic, sizeof kMagic, 0);
  if (error == 0) return true;
  g_file.remove();
  why.put("cannot write ").put(g_file.path()).put(": ").put(os::error_text(error));
  return false;
}

bool is_on() { return g_file.is_open() && g_file.is_ours(); }
const char* path() { return g_file.path(); }

int publish(bool is_last) {
  int error = write_all(is_last);
  // A signal handler may have forked in the middle of it: then the file is the parent's.
  if (error != 0 && !g_file.is_ours()) return ESTALE;
  if (error == ESTALE && g_file.find_again()) error = write_all(is_last);
  if (error == ESTALE) {
    g_file.leave();
  } else if (error != 0) {
    g_file.remove();
  }
  return error;
}

bool serve_request() {
  // Most often there is none.
  uint64_t sequence = 0;
  if (!g_file.read(&sequence, sizeof sequence, kAtRequest) || sequence <= g_requests) return false;
  Request request;
  Reply reply;
  if (!g_file.read(&request, sizeof request, kAtRequest)) return false;
  if (!serve(request, g_requests, &reply)) return false;
  g_requests = request.seal.sequence;
  seal(&reply, sizeof reply, g_requests);
  g_file.write(&reply, sizeof reply, kAtReply);
  return true;
}

void finish(bool keep) { keep ? g_file.leave() : g_file.remove(); }
void finish_beside(bool keep) {
  if (!keep) g_file.unlink();
}
void leave_to_parent() { g_file.leave(); }

void write_event(EventKind kind, const core::Tag& tag, uint64_t asked, uint64_t left_out) {
  if (!is_on()) return;
  Event event = {};
  put_text(event.tag, sizeof event.tag, tag.name);
  auto limit_of = [](uint64_t limit) {
    return limit == core::Account::kNoLimit ? TALLY_LIMIT_NONE : limit;
  };
  event.time = static_cast<int64_t>(os::now_ns(os::Clock::kWall));
  event.kind = kind;
  event.asked = asked;
  event.held = tag.account().held();
  event.soft = limit_of(tag.limit.soft.load(std::memory_order_relaxed));
  event.hard = limit_of(tag.account().limit());
  event.left_out = left_out;
  const uint64_t sequence = g_events.fetch_add(1, std::memory_order_relaxed) + 1;
  seal(&event, sizeof event, sequence);
  g_file.write(&event, sizeof event, kAtEvents + sequence % kEventsMax * sizeof event);
}

}  // namespace tally::record
