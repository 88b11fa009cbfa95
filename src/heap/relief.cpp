#include "heap/relief.h"

#include <errno.h>

#include "backend/backend.h"
#include "base/math.h"
#include "heap/holes.h"
#include "heap/purge.h"
#include "heap/slab_ops.h"
#include "os/os.h"
#include "tag/tag.h"

namespace tally::core {
namespace {

// Where nothing helps, refusals are to be cheap: after each try in vain twice as many are passed on
// as after the one before, up to the work of the try. (Twice, so that who frees one block after
// each failure until something fits has freed at most twice what was needed.)
void note_in_vain(Limit& limit, uint32_t looked_at) {
  uint32_t before = limit.in_vain.fetch_add(1, std::memory_order_relaxed);
  uint32_t skip = before == 0 ? 0 : uint32_t{1} << min_of(before - 1, 30U);
  limit.skip.store(min_of(skip, looked_at), std::memory_order_relaxed);
}

// Gives back what the tag and those below it hold and do not use, as far as this thread may: what
// others freed, empty slabs, what this thread has in hand, and the free pages of its slabs. Returns
// how much there was to look at.
uint32_t collect(const Tag* above) {
  uint32_t looked_at = 0;
  Thread* self = tls.thread;
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    Block* foreign = nullptr;
    thread->lock.acquire();
    look_at_woken(thread);
    bool may_flush = thread == self || thread->orphan.load(std::memory_order_relaxed);
    thread->for_each_heap([&](Heap* heap) {
      if (!is_within(heap->tag.load(std::memory_order_relaxed), above)) return;
      looked_at += 4 + heap->slabs;
      if (may_flush) foreign = flush(heap, foreign);
      release_empty(heap, ~0U);
      if (may_flush) dig_holes_of(heap);
    });
    if (thread == self) looked_at += unpark_all(thread);
    thread->for_each_heap([&](Heap* heap) {
      const Tag* tag = heap->tag.load(std::memory_order_relaxed);
      if (may_flush && is_within(tag, above)) put_free_first(heap);
    });
    thread->lock.release();
    give_foreign(foreign);
  }
  return looked_at;
}

}  // namespace

bool Relief::help() {
  if (Lock::all_held_by_me()) return false;  // in the middle of a fork
  Tag* tag = limits_met.refused;
  limits_met.refused = nullptr;
  // Metadata is refused without a tag.
  constexpr size_t kLittle = 256 * KiB;
  if (tag == nullptr && meta::process.room() < kLittle) tag = root_tag();
  if (tag != nullptr) return help_against(tag);
  // What the account refuses without a limit no room helps.
  if (made_room_ || asked_ > Account::kNoLimit) return false;
  made_room_ = true;
  return make_room();
}

bool Relief::help_against(Tag* tag) {
  Limit& limit = tag->limit;
  // What never fits helps nobody by evicting, or by waiting.
  if (asked_ > tag->account().ordinary_limit()) return fail(tag);
  if (tag != tag_) {
    stop_waiting();
    tag_ = tag;
    // What is asked may never fit, and if nothing helped just now, it will not help now.
    uint32_t skip = limit.skip.load(std::memory_order_relaxed);
    step_ = skip == 0 ? kCollect : kAsk;
    if (skip != 0) limit.skip.store(skip - 1, std::memory_order_relaxed);
  }
  // Two limits that refuse in turn would else do so for ever.
  constexpr unsigned kMostRounds = 16;
  bool go_on = ++rounds_ <= kMostRounds;
  if (step_ == kCollect && go_on) {
    step_ = kTell;
    looked_at_ = collect(tag);
    return true;
  }
  if (step_ == kTell) {
    step_ = kAsk;
    note_refusal(tag);
    int error = errno;
    bool any = !limits_met.in_listener && tell_listeners(tag, true) != 0;
    errno = error;
    if (any) {
      looked_at_ += collect(tag);  // of what they freed
      return true;
    }
  }
  if (looked_at_ != 0) note_in_vain(limit, looked_at_);
  looked_at_ = 0;
  Policy policy = limit.policy.load(std::memory_order_relaxed);
  // A listener that waits for itself would wait in vain.
  if (policy.kind == Policy::kWait && !limits_met.in_listener && wait(tag, policy.wait_ms)) {
    return true;
  }
  return fail(tag);
}

// Waits for memory of the tag to come back: at once when it does, and every few ms, as blocks that
// are freed to a slab do not all show.
bool Relief::wait(Tag* tag, uint32_t most_ms) {
  constexpr uint64_t kSliceMs = 5;
  Limit& limit = tag->limit;
  uint64_t now = os::now_ms();
  if (waits_for_ == nullptr) {
    if (since_ms_ == 0) {
      since_ms_ = now;
      limit.waits.fetch_add(1, std::memory_order_relaxed);
      on_limit_event({LimitEvent::kWaits, tag, asked_});
    }
    waits_for_ = tag;
    limit.waiters.fetch_add(1, std::memory_order_seq_cst);
    returned_ = limit.returned.load(std::memory_order_acquire);
    return true;  // it may have come back before we were counted
  }
  if (now - since_ms_ >= most_ms) return false;
  settle_limits();  // nobody else tells of what this thread noted
  uint64_t slice = min_of(since_ms_ + most_ms - now, kSliceMs);
  os::futex_wait_ms(&limit.returned, returned_, static_cast<uint32_t>(slice));
  uint32_t returned = limit.returned.load(std::memory_order_acquire);
  if (returned == returned_) collect(tag);
  returned_ = returned;
  return true;
}

void Relief::stop_waiting() {
  if (waits_for_ == nullptr) return;
  std::atomic<uint32_t>& waiters = waits_for_->limit.waiters;
  // In a child that a signal handler forked nobody waits.
  if (waiters.load(std::memory_order_relaxed) != 0) {
    waiters.fetch_sub(1, std::memory_order_relaxed);
  }
  waits_for_ = nullptr;
}

// The request fails. Who handles that may draw on the reserve, if that is what is left.
bool Relief::fail(Tag* tag) {
  static constinit std::atomic<bool> aborts{false};
  constexpr size_t kLittle = 64 * KiB;
  Limit& limit = tag->limit;
  limit.refusals.fetch_add(1, std::memory_order_relaxed);
  if (tag->account().room() < kLittle) limit.in_need.store(true, std::memory_order_relaxed);
  Policy policy = limit.policy.load(std::memory_order_relaxed);
  // A handler of SIGABRT may allocate too.
  bool ends = policy.kind == Policy::kAbort && !aborts.exchange(true, std::memory_order_relaxed);
  on_limit_event({ends ? LimitEvent::kAborts : LimitEvent::kFailed, tag, asked_});
  return false;
}

void Relief::note_success() {
  if (tag_ != nullptr) tag_->limit.forget_failures();
}

int charge_foreign(Tag* tag, size_t bytes) {
  if (bytes == 0) return 0;
  if (bytes > Account::kNoLimit) return ENOMEM;
  if (tag->fault() != nullptr && tag->fault()->strikes(bytes)) return ENOMEM;
  Relief relief(bytes);
  bool ok, is_live;
  do {
    // While it reads, no tag that was in use then becomes another.
    TagReader reader;
    is_live = taking_tag(tag->id) != nullptr;
    ok = is_live && tag->may_charge(bytes) && tag->charge(bytes);
    if (ok) tag->charged.fetch_add(bytes, std::memory_order_relaxed);
  } while (!ok && is_live && relief.help());
  if (ok) relief.note_success();
  settle_limits();
  return !is_live ? EINVAL : ok ? 0 : ENOMEM;
}

int uncharge_foreign(Tag* tag, size_t bytes) {
  uint64_t charged = tag->charged.load(std::memory_order_relaxed);
  do {
    if (bytes > charged) return ERANGE;
  } while (
      !tag->charged.compare_exchange_weak(charged, charged - bytes, std::memory_order_relaxed));
  tag->uncharge(bytes);
  settle_limits();
  return 0;
}

void settle_limits_slow() {
  if (limits_met.in_listener || Lock::all_held_by_me() || backend::is_inside()) return;
  int error = errno;
  while (Tag* tag = limits_met.noted) {
    Limit& limit = tag->limit;
    limits_met.noted = limit.next_noted;
    limit.noted.store(false, std::memory_order_release);
    auto is_above = [&] { return limit.level.load(std::memory_order_relaxed) == Pressure::kSoft; };
    uint64_t events = limit.soft_events.load(std::memory_order_relaxed);
    bool is_new = limit.soft_told.exchange(events, std::memory_order_relaxed) != events;
    // What was merely kept presses nobody.
    if (is_new && is_above()) {
      collect(tag);
      take_back_crossing(tag);
    }
    if (is_new && is_above()) on_limit_event({LimitEvent::kSoft, tag, 0});
    bool any = tell_listeners(tag, false) != 0;
    if (any && is_above()) collect(tag);  // of what they freed
  }
  errno = error;
}

}  // namespace tally::core
