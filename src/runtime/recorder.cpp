#include "runtime/recorder.h"

#include <errno.h>

#include <atomic>

#include "backend/backend.h"
#include "base/math.h"
#include "base/options.h"
#include "base/text.h"
#include "heap/purge.h"
#include "memory/meta.h"
#include "os/file.h"
#include "os/libc.h"
#include "os/lock.h"
#include "record/writer.h"
#include "runtime/report.h"
#include "tag/limit.h"

namespace tally::core {
namespace {

constexpr uint32_t kIntervalMs = 1000;  // where no thread publishes
constexpr uint64_t kFirstMs = 20;       // from the start to the second publication there
constexpr uint32_t kLookMs = 100;       // between looks at what is asked from outside
// What grew by an eighth, and by so much, is published before its time, so that who runs out of
// memory leaves a record of how; but not all the time.
constexpr uint64_t kGrowth = 4 * MiB;
constexpr uint64_t kGrowthMs = 20;
// A publication's time in relation to that between them: at most so much of a processor is spent,
// however many tags there are.
constexpr uint64_t kShare = 100;
constexpr uint64_t kGrowthShare = 20;

// Who writes the record. Tried, never waited for, but at the end: the walk of a thread with the
// least priority may take its time. Not one of the locks that a fork takes, for the same reason:
// the child begins anew, whatever state it finds.
constinit Lock g_turn;
constinit std::atomic<bool> g_is_on{false};
constinit std::atomic<bool> g_has_ended{false};
constinit int64_t g_pid = 0;           // of the process that the record is, or will be, about
constinit uint64_t g_started = 0;      // ms: when there came to be one
constinit bool g_is_to_start = false;  // under g_turn: a forked child, which has none yet
constinit std::atomic<uintptr_t> g_thread{0};   // of ours, as Lock::me(); 0: there is none
constinit std::atomic<uint64_t> g_due{0};       // ms: when to publish next
constinit std::atomic<uint64_t> g_look{0};      // ms: when to look for a request next
constinit std::atomic<uint64_t> g_earliest{0};  // ms: for what grew
constinit std::atomic<uint64_t> g_grown{0};     // bytes held from which on it grew
constinit uint64_t g_highest =
    0;  // under g_turn: bytes held at publications since the last in time

uint32_t interval() { return options.record_ms != 0 ? options.record_ms : kIntervalMs; }

void complain_of_record(const char* why) {
  static constinit std::atomic<bool> was_said{false};  // by a parent too
  if (was_said.exchange(true, std::memory_order_relaxed)) return;
  char buffer[256];
  TextWriter line(buffer, sizeof buffer - 1);
  line.put("tally: TALLY_RECORD: ").put(why).put("; no record is kept");
  const size_t length = line.used();
  buffer[length] = '\n';
  os::write_all(program_stderr(), buffer, length + 1);
}

void complain_of_write(int error) {
  char why[160];
  TextWriter out(why, sizeof why - 1);
  out.put("cannot write ").put(record::path()).put(": ").put(os::error_text(error));
  why[out.used()] = 0;
  complain_of_record(why);
}

void complain_of_thread(int error) {
  char buffer[160];
  TextWriter line(buffer, sizeof buffer);
  line.put("tally: TALLY_RECORD_MS: cannot start a thread: ").put(os::error_text(error));
  line.put("; the program's own publish\n");
  os::write_all(program_stderr(), buffer, line.used());
}

// Until a program has lived for a second it publishes again when it is twice as old: it may sleep
// from then on.
uint64_t pause_at(uint64_t now) {
  if (options.record_ms != 0) return options.record_ms;
  return max_of(kFirstMs, min_of(now - g_started, kIntervalMs));
}

// `in_time`: it was not for what grew.
void plan_next(uint64_t begun_ns, bool in_time) {
  const uint64_t now = os::now_ms();
  const uint64_t spent = (os::now_ns(os::Clock::kThread) - begun_ns) / 1000;  // us
  g_due.store(now + max_of(pause_at(now), spent * kShare / 1000), std::memory_order_relaxed);
  g_earliest.store(now + max_of(kGrowthMs, spent * kGrowthShare / 1000), std::memory_order_relaxed);
  // Who grows and shrinks all the time does not grow.
  g_highest = max_of(meta::process.held(), in_time ? 0 : g_highest);
  g_grown.store(g_highest + max_of(g_highest / 8, kGrowth), std::memory_order_relaxed);
}

bool start(bool has_thread) {
  char folder[record::kFolderMost];
  TextWriter name(folder, sizeof folder - 1);
  name.put(record::kFolderPrefix).number(os::user_id());
  folder[name.used()] = 0;
  char why[256];
  TextWriter out(why, sizeof why - 1);
  if (record::start(folder, {interval(), has_thread}, out)) return true;
  why[out.used()] = 0;
  complain_of_record(why);
  return false;
}

// The turn is ours. False: there is no record any more.
bool publish(bool in_time) {
  const uint64_t begun = os::now_ns(os::Clock::kThread);
  if (g_is_to_start) {
    g_is_to_start = false;
    if (!start(false)) return false;
    g_started = os::now_ms();
  } else if (int error = record::publish(false)) {
    if (error != ESTALE) complain_of_write(error);
    return false;
  }
  plan_next(begun, in_time);
  return true;
}

bool has_grown(uint64_t now) {
  return meta::process.held() > g_grown.load(std::memory_order_relaxed) &&
         now >= g_earliest.load(std::memory_order_relaxed);
}

// When the running thread is to publish because time has passed. The program's threads leave that
// to ours, unless it gets no processor.
uint64_t due_here(bool is_ours) {
  const uint64_t due = g_due.load(std::memory_order_relaxed);
  return is_ours || g_thread.load(std::memory_order_relaxed) == 0 ? due : due + interval();
}

// Of a thread that was there before start_recorder made what there is, its own too.
bool is_on() { return g_is_on.load(std::memory_order_acquire); }

// Model: tests/model/record_model.cpp. The caller saw that it is on.
void step(uint64_t now, bool is_ours) {
  // Not in a vfork's child or behind libc's back, where all this is the parent's, or a copy; nor in
  // the middle of a fork, or of a backend's call.
  if (os::process_id() != g_pid || Lock::all_held_by_me() || backend::is_inside()) return;
  if (!g_turn.take()) return;
  bool ok = g_is_on.load(std::memory_order_relaxed);
  if (ok && !g_is_to_start && now >= g_look.load(std::memory_order_relaxed)) {
    g_look.store(now + kLookMs, std::memory_order_relaxed);
    if (record::serve_request()) ok = publish(true);
  }
  const bool in_time = now >= due_here(is_ours);
  if (ok && (in_time || has_grown(now))) ok = publish(in_time);
  // Unless this is the child by now of a signal handler's fork, which is yet to begin.
  if (!ok && !g_is_to_start) g_is_on.store(false, std::memory_order_relaxed);
  g_turn.open();
}

void run_thread() {
  g_thread.store(Lock::me(), std::memory_order_relaxed);
  const uint32_t pause = static_cast<uint32_t>(min_of(kLookMs, interval()));
  for (;;) {
    os::sleep_ms(pause);
    if (g_has_ended.load(std::memory_order_relaxed)) return;
    purge_tick();
    leave_noted();
    if (os::is_last_thread()) break;
  }
  // Others may be there after all, unseen: from here on they publish, and look for requests.
  g_thread.store(0, std::memory_order_relaxed);
}

}  // namespace

void on_tick(uint64_t now) {
  if (!is_on()) return;
  const uintptr_t thread = g_thread.load(std::memory_order_relaxed);
  const bool is_ours = Lock::me() == thread;
  if (!is_ours) take_over_noted();
  const bool may_look = is_ours || thread == 0;
  if (now >= due_here(is_ours) || has_grown(now) ||
      (may_look && now >= g_look.load(std::memory_order_relaxed))) {
    step(now, is_ours);
  }
}

void record_now() {
  if (!is_on()) return;
  g_due.store(0, std::memory_order_relaxed);
  step(os::now_ms(), true);
}

void start_recorder() {
  constexpr size_t kStack = 256 * KiB;  // should the program's exit run on it, see is_last_thread
  if (options.record == Record::kNo) return;
  const uint64_t begun = os::now_ns(os::Clock::kThread);
  g_pid = os::process_id();
  bool has_thread = false;
  if (options.record_ms != 0) {
    int error = os::start_thread(run_thread, "tally-recorder", kStack);
    has_thread = error == 0;
    if (error != 0) complain_of_thread(error);
  }
  if (start(has_thread)) {
    g_started = os::now_ms();
    plan_next(begun, true);
    g_is_on.store(true, std::memory_order_release);
  } else {
    g_has_ended.store(true, std::memory_order_relaxed);
  }
}

void end_record() {
  // In this order: without a record the system is asked nothing, which a sandbox may forbid.
  if (!is_on() || os::process_id() != g_pid || !g_is_on.exchange(false)) return;
  g_has_ended.store(true, std::memory_order_relaxed);
  constexpr int kMostMs = 200;
  bool is_mine = g_turn.take();
  for (int i = 0; i < kMostMs && !is_mine; ++i) {
    os::sleep_ms(1);
    is_mine = g_turn.take();
  }
  int error = is_mine && !g_is_to_start ? record::publish(true) : 0;
  if (error != 0 && error != ESTALE) complain_of_write(error);
  if (error != 0 || g_is_to_start) return;
  const bool keep = options.record == Record::kKeep;
  is_mine ? record::finish(keep) : record::finish_beside(keep);
}

void let_go_of_record() {
  record::leave_to_parent();  // of one that is just being ended too
  if (!g_is_on.load(std::memory_order_relaxed)) return;
  g_turn.reset_after_fork();
  g_pid = os::process_id();
  g_thread.store(0, std::memory_order_relaxed);
  g_is_to_start = true;
  g_due.store(os::now_ms() + interval(), std::memory_order_relaxed);
  // What it takes is its own from here on.
  g_highest = meta::process.held();
  g_grown.store(g_highest + kGrowth, std::memory_order_relaxed);
}

}  // namespace tally::core
