// When memory was refused: what may help, in this order, and what the tag's policy says when
// nothing does. (DESIGN: collect, callbacks, policy.)
#pragma once

#include "base/check.h"
#include "heap/heap.h"

namespace tally::core {

// For one request of the running thread, which holds no lock. After each failure help() does the
// next thing that may have made room.
class Relief {
 public:
  explicit Relief(size_t asked) : asked_(asked) { limits_met.refused = nullptr; }
  ~Relief() { stop_waiting(); }
  Relief(const Relief&) = delete;
  Relief& operator=(const Relief&) = delete;

  // True: it is worth another try. The heaps that the thread had may be gone. False: the request
  // fails.
  bool help();
  // The request was served.
  void note_success();

 private:
  bool help_against(Tag* tag);
  bool wait(Tag* tag, uint32_t most_ms);
  void stop_waiting();
  bool fail(Tag* tag);

  size_t asked_;
  Tag* tag_ = nullptr;  // which refused before
  enum Step : uint8_t {
    kCollect,
    kTell,
    kAsk
  } step_ = kCollect;       // what is next against its refusal
  uint32_t looked_at_ = 0;  // by collect
  unsigned rounds_ = 0;
  bool made_room_ = false;  // everywhere, as the system had none
  Tag* waits_for_ = nullptr;
  uint64_t since_ms_ = 0;  // 0: it did not wait yet
  uint32_t returned_ = 0;
};

// Counts memory that is not ours for the tag, with all that its limits do; and takes it back. An
// errno, or 0.
int charge_foreign(Tag* tag, size_t bytes);
int uncharge_foreign(Tag* tag, size_t bytes);

// The end of a step that took or gave memory: levels that changed are told to who asked for it. No
// lock held; the program's functions are called, and may do anything to the thread's heaps.
void settle_limits_slow();
inline void settle_limits() {
  if (TALLY_UNLIKELY(limits_met.noted != nullptr)) settle_limits_slow();
}

// What happened at a limit, for the line and the report that on_limit_event writes.
struct LimitEvent {
  enum Kind : uint8_t { kSoft, kFailed, kWaits, kAborts };
  Kind kind;
  Tag* tag;
  size_t asked;
};
// Provided by the layer above; with no lock held.
void on_limit_event(const LimitEvent& event);
static_assert(LimitEvent::kAborts + 1 == kEventKinds);

}  // namespace tally::core
