// Limits of tags: how much one may hold, what happens at its limits, and how near it is.
//
// What a tag holds is checked where slabs and large blocks are charged to it (tag/tag.h); here is
// what is decided then, at the few charges that cross a level. heap/relief.h does what is slow
// about a refusal.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/gauge.h"
#include "os/lock.h"

namespace tally::core {

struct Tag;

// As TALLY_PRESSURE_* of tally/tally.h.
enum class Pressure : uint8_t { kNormal, kSoft, kHard };

// As tally_pressure_fn.
using PressureFunction = void (*)(uint32_t tag, int level, void* arg);

// Whom to tell when the level changes. All under limits_lock.
struct Listener {
  PressureFunction call;
  void* arg;
  uint32_t levels;       // bits, of 1 << Pressure
  uint32_t interval_ms;  // between two calls that tell of a higher level
  uint64_t told_ms = 0;  // when it was last told so; 0: never
  uint64_t number = 0;   // of all calls that began, so that each is found once in a round
  Pressure told = Pressure::kNormal;
  Listener* next = nullptr;  // in the order of registration
};

// What the policy makes of a refusal that nothing helped against.
// Aligned as its atomic is: clang would else call libatomic for it.
struct alignas(8) Policy {
  enum Kind : uint8_t { kFail, kWait, kAbort };
  Kind kind = kFail;
  uint32_t wait_ms = 0;
};

// Of a tally_policy of tally/tally.h. False: there is no such.
bool read_policy(uint64_t number, Policy* policy);

// As many as LimitEvent has kinds.
inline constexpr unsigned kEventKinds = 4;

// Of one tag. Who writes: `lock` under limits_lock; `any` any thread, atomically.
struct Limit {
  std::atomic<uint64_t> soft{Account::kNoLimit};   // lock
  std::atomic<Pressure> level{Pressure::kNormal};  // lock
  // Lock. What is held above `alarm`, or falls below `calm`, is for update_level to look at.
  std::atomic<uint64_t> alarm{Account::kNoLimit};
  std::atomic<uint64_t> calm{0};
  // Any. Memory was refused, and little came back since: nothing is put by, and nearly full slabs
  // are not passed over.
  std::atomic<bool> is_short{false};
  std::atomic<bool> in_need{false};  // any: a failure was delivered: its reserve may be drawn on
  std::atomic<Policy> policy{};      // lock
  // Any. How often in a row nothing helped; and of the next refusals so many are passed on without
  // looking for help again.
  std::atomic<uint32_t> in_vain{0};
  std::atomic<uint32_t> skip{0};
  std::atomic<uint32_t> waiters{0};   // any
  std::atomic<uint32_t> returned{0};  // any: changes when memory comes back while there are waiters
  std::atomic<bool> noted{false};     // any: it is in a thread's list of levels to tell
  std::atomic<bool> left{false};      // any: nobody's list has it, but it is to be told
  Tag* next_noted = nullptr;          // who set `noted`
  std::atomic<Listener*> listeners{nullptr};  // lock
  uintptr_t caller = 0;                       // lock: the thread that calls listeners now
  const Listener* called = nullptr;           // lock: the one that it calls
  bool has_late = false;                 // lock: a listener's interval delays what it is to be told
  std::atomic<uint64_t> since_ms{0};     // lock: when the level left normal; 0: it is normal
  std::atomic<uint64_t> pressure_ms{0};  // lock: time at higher levels, that which runs left out
  std::atomic<uint64_t> soft_events{0};  // any: times that the level rose from normal
  std::atomic<uint64_t> soft_told{0};    // any: those of which a line told
  std::atomic<uint64_t> refusals{0};     // any: requests that this limit let fail
  std::atomic<uint64_t> waits{0};        // any: requests that waited
  std::atomic<uint64_t> logged_ms[kEventKinds] = {};  // any: when a line was written last, by kind
  std::atomic<uint64_t> not_logged{0};                // any: events since

  void reset();
  // Something fitted again, or may.
  void forget_failures() {
    if (in_vain.load(std::memory_order_relaxed) == 0) return;
    in_vain.store(0, std::memory_order_relaxed);
    skip.store(0, std::memory_order_relaxed);
  }
};

// The last of all locks but that of metadata.
extern constinit Lock limits_lock;

// What a step of the running thread met, for the end of the step.
struct LimitsMet {
  Tag* noted = nullptr;    // tags whose level may have changed
  Tag* refused = nullptr;  // the tag whose limit refused the last charge that failed
  bool in_listener = false;
};
extern constinit thread_local LimitsMet limits_met;

// An errno, or 0. Bytes, or Account::kNoLimit. The tag takes new blocks.
int set_limit(Tag* tag, uint64_t soft, uint64_t hard, Policy policy);

// For a thread of ours, which calls none of the program's functions: what it noted is told by the
// next of the program's threads that calls take_over_noted and ends its step.
void leave_noted();
void take_over_noted();

// What is held crossed `alarm` or `calm`: the level follows, and the running thread's step will
// tell. Takes limits_lock.
void note_crossing(Tag* tag);
// The soft limit was crossed, and the tag holds no more than that any more: it was nothing.
void take_back_crossing(Tag* tag);
// It refused for the first time in a while: what comes back is to be looked at. Takes limits_lock.
void note_shortage(Tag* tag);
// Nothing helped against a refusal: the level is hard.
void note_refusal(Tag* tag);
// With the time that runs now.
uint64_t pressure_ms_of(const Tag* tag);

// In a forked child, where no other thread waits, is in a listener, or will tell any.
void forget_other_threads_at_limits();

// It is told of the level at the end of the step, if that is not normal. False: no memory.
bool add_listener(Tag* tag, PressureFunction call, void* arg, uint32_t levels,
                  uint32_t interval_ms);
// False: there is no such. Returns when no other thread is in a call of it.
bool remove_listener(Tag* tag, PressureFunction call, void* arg);
// Tells the listeners of the tag, and then those below it, of their levels; or, `all`, all that
// want to know of kHard. Those of a tag in order. Calls them without a lock. Not from within a
// listener. Returns how many it called.
unsigned tell_listeners(Tag* tag, bool all);

}  // namespace tally::core
