#include "tag/limit.h"

#include <errno.h>

#include <initializer_list>

#include "base/math.h"
#include "base/options.h"
#include "base/preempt.h"
#include "memory/meta.h"
#include "os/os.h"
#include "tag/tag.h"
#include "tally/tally.h"

namespace tally::core {

constinit Lock limits_lock;
constinit thread_local LimitsMet limits_met;

namespace {

// Of limits_lock.
constinit uint64_t g_calls = 0;
// Of all tags.
constinit std::atomic<uint32_t> g_listeners{0};
constinit std::atomic<bool> g_left{false};

// Below this a level is left again: what goes up and down by little tells nobody.
uint64_t calm_below(uint64_t limit) { return max_of(limit - limit / 16, uint64_t{1}); }

Pressure level_at(const Limit& limit, uint64_t held, uint64_t hard) {
  uint64_t soft = limit.soft.load(std::memory_order_relaxed);
  Pressure level = limit.level.load(std::memory_order_relaxed);
  if (level == Pressure::kHard && held >= calm_below(hard)) return level;
  uint64_t bound = level == Pressure::kNormal ? soft + 1 : calm_below(soft);
  return held >= bound ? Pressure::kSoft : Pressure::kNormal;
}

void change_level(Limit& limit, Pressure level) {
  Pressure old = limit.level.load(std::memory_order_relaxed);
  if (old == level) return;
  if (old == Pressure::kNormal) {
    limit.since_ms.store(max_of(os::now_ms(), uint64_t{1}), std::memory_order_relaxed);
    limit.soft_events.fetch_add(1, std::memory_order_relaxed);
  } else if (level == Pressure::kNormal) {
    uint64_t since = limit.since_ms.exchange(0, std::memory_order_relaxed);
    uint64_t now = os::now_ms();
    limit.pressure_ms.fetch_add(now > since ? now - since : 0, std::memory_order_relaxed);
  }
  limit.level.store(level, std::memory_order_relaxed);
}

// Model, with those who are told: tests/model/limit_model.cpp. The level, and what is to be looked
// at next, follow what is held. Lock held. Who changes that meanwhile either sees the new bounds,
// or is seen by the second look.
void follow(Tag* tag) {
  Limit& limit = tag->limit;
  Pressure level;
  do {
    uint64_t held = tag->account().held(), hard = tag->account().ordinary_limit();
    if (held < calm_below(hard)) {
      limit.is_short.store(false, std::memory_order_relaxed);
      limit.in_need.store(false, std::memory_order_relaxed);
    }
    level = level_at(limit, held, hard);
    change_level(limit, level);
    uint64_t soft = limit.soft.load(std::memory_order_relaxed);
    bool is_short = level == Pressure::kHard || limit.is_short.load(std::memory_order_relaxed);
    bool may_rise = level == Pressure::kNormal || limit.has_late;
    limit.alarm.store(may_rise ? soft : Account::kNoLimit, std::memory_order_seq_cst);
    at_point("limit: one bound set");
    limit.calm.store(is_short                     ? calm_below(hard)
                     : level == Pressure::kNormal ? 0
                                                  : calm_below(soft),
                     std::memory_order_seq_cst);
  } while (level_at(limit, tag->account().held(), tag->account().ordinary_limit()) != level);
}

// The end of the running thread's step tells its listeners.
void note(Tag* tag) {
  if (tag->limit.noted.exchange(true, std::memory_order_acq_rel)) return;
  tag->limit.next_noted = limits_met.noted;
  limits_met.noted = tag;
}

struct Call {
  PressureFunction function = nullptr;
  void* arg;
  Pressure level;
};

// Who is to be told next. Lock held. `all`: of those that were not called since `round`.
Call next_call(Tag* tag, bool all, uint64_t round) {
  Limit& limit = tag->limit;
  Pressure level = all ? Pressure::kHard : tag->pressure();
  uint64_t now = os::now_ms();
  bool has_late = false;
  for (Listener* to = limit.listeners.load(std::memory_order_relaxed); to != nullptr;
       to = to->next) {
    bool wanted = (to->levels >> static_cast<unsigned>(level) & 1) != 0;
    if (all ? to->number > round || !wanted : to->told == level) continue;
    if (!all && wanted && level > to->told && to->told_ms != 0 &&
        now - to->told_ms < to->interval_ms) {
      has_late = true;
      continue;
    }
    if (level > to->told) to->told_ms = max_of(now, uint64_t{1});
    to->told = level;
    if (!wanted) continue;
    to->number = ++g_calls;
    limit.called = to;
    return {to->call, to->arg, level};
  }
  limit.called = nullptr;
  if (!all && has_late != limit.has_late) {
    limit.has_late = has_late;
    follow(tag);
  }
  return {};
}

// Another thread is in its listeners: what they do may be of use to us too. Not for long, as they
// may wait for something that we hold.
unsigned wait_for_caller(Tag* tag) {
  constexpr int kMost = 20;
  for (int i = 0; i < kMost; ++i) {
    os::sleep_ms(1);
    LockGuard guard(limits_lock);
    if (tag->limit.caller == 0) return 1;
  }
  return 0;
}

}  // namespace

void Limit::reset() {
  LockGuard guard(limits_lock);
  while (Listener* listener = listeners.load(std::memory_order_relaxed)) {
    listeners.store(listener->next, std::memory_order_relaxed);
    g_listeners.fetch_sub(1, std::memory_order_relaxed);
    meta::release(listener, sizeof *listener);
  }
  soft.store(Account::kNoLimit, std::memory_order_relaxed);
  level.store(Pressure::kNormal, std::memory_order_relaxed);
  alarm.store(Account::kNoLimit, std::memory_order_relaxed);
  policy.store({}, std::memory_order_relaxed);
  is_short.store(false, std::memory_order_relaxed);
  in_need.store(false, std::memory_order_relaxed);
  left.store(false, std::memory_order_relaxed);
  forget_failures();
  has_late = false;
  for (auto& of_kind : logged_ms) of_kind.store(0, std::memory_order_relaxed);
  for (auto* counter :
       {&calm, &since_ms, &pressure_ms, &soft_events, &soft_told, &refusals, &waits, &not_logged}) {
    counter->store(0, std::memory_order_relaxed);
  }
}

int set_limit(Tag* tag, uint64_t soft, uint64_t hard, Policy policy) {
  soft = min_of(soft, Account::kNoLimit);
  hard = min_of(hard, Account::kNoLimit);
  if (soft > hard && soft != Account::kNoLimit) return EINVAL;
  LockGuard guard(limits_lock);
  Limit& limit = tag->limit;
  limit.soft.store(soft, std::memory_order_relaxed);
  limit.policy.store(policy, std::memory_order_relaxed);
  bool has_limit = hard != Account::kNoLimit;
  tag->account().set_limit(hard, has_limit ? min_of(options.reserve, hard / 16) : 0);
  limit.is_short.store(false, std::memory_order_relaxed);
  limit.forget_failures();
  follow(tag);
  note(tag);
  limit.returned.fetch_add(1, std::memory_order_release);
  os::futex_wake_all(&limit.returned);
  return 0;
}

bool read_policy(uint64_t number, Policy* policy) {
  switch (number & 0xff) {
    case TALLY_POLICY_FAIL:
      *policy = {Policy::kFail, 0};
      break;
    case TALLY_POLICY_ABORT:
      *policy = {Policy::kAbort, 0};
      break;
    case TALLY_POLICY_WAIT(0):
      *policy = {Policy::kWait, static_cast<uint32_t>(number >> 8)};
      return number >> 40 == 0;
    default:
      return false;
  }
  return number <= TALLY_POLICY_ABORT;
}

void leave_noted() {
  while (Tag* tag = limits_met.noted) {
    limits_met.noted = tag->limit.next_noted;
    tag->limit.noted.store(false, std::memory_order_release);
    tag->limit.left.store(true, std::memory_order_relaxed);
    g_left.store(true, std::memory_order_release);
  }
}

void take_over_noted() {
  if (!g_left.load(std::memory_order_relaxed) || !g_left.exchange(false)) return;
  for (uint32_t id = 0; id < tag_limit(); ++id) {
    Tag* tag = find_tag(id);
    if (tag != nullptr && tag->limit.left.exchange(false, std::memory_order_relaxed)) note(tag);
  }
}

void note_crossing(Tag* tag) {
  {
    LockGuard guard(limits_lock);
    follow(tag);
  }
  note(tag);
}

void take_back_crossing(Tag* tag) {
  LockGuard guard(limits_lock);
  Limit& limit = tag->limit;
  if (limit.level.load(std::memory_order_relaxed) == Pressure::kHard) return;
  if (tag->account().held() > limit.soft.load(std::memory_order_relaxed)) return;
  change_level(limit, Pressure::kNormal);
  limit.soft_events.fetch_sub(1, std::memory_order_relaxed);
  limit.soft_told.fetch_sub(1, std::memory_order_relaxed);
  follow(tag);
}

void note_shortage(Tag* tag) {
  LockGuard guard(limits_lock);
  follow(tag);
}

void note_refusal(Tag* tag) {
  {
    LockGuard guard(limits_lock);
    change_level(tag->limit, Pressure::kHard);
    follow(tag);
  }
  note(tag);
}

uint64_t pressure_ms_of(const Tag* tag) {
  uint64_t past = tag->limit.pressure_ms.load(std::memory_order_relaxed);
  uint64_t since = tag->limit.since_ms.load(std::memory_order_relaxed);
  uint64_t now = os::now_ms();
  return past + (since != 0 && now > since ? now - since : 0);
}

void forget_other_threads_at_limits() {
  for (uint32_t id = 0; id < tag_limit(); ++id) {
    Tag* tag = find_tag(id);
    if (tag == nullptr) continue;
    tag->limit.waiters.store(0, std::memory_order_relaxed);
    tag->limit.noted.store(false, std::memory_order_relaxed);
    if (tag->limit.caller == Lock::me()) continue;
    tag->limit.caller = 0;
    tag->limit.called = nullptr;
  }
  for (Tag* tag = limits_met.noted; tag != nullptr; tag = tag->limit.next_noted) {
    tag->limit.noted.store(true, std::memory_order_relaxed);
  }
}

bool add_listener(Tag* tag, PressureFunction call, void* arg, uint32_t levels,
                  uint32_t interval_ms) {
  auto* listener = static_cast<Listener*>(meta::allocate(sizeof(Listener)));
  if (listener == nullptr) return false;
  *listener = {.call = call, .arg = arg, .levels = levels, .interval_ms = interval_ms};
  {
    LockGuard guard(limits_lock);
    Listener* last = tag->limit.listeners.load(std::memory_order_relaxed);
    while (last != nullptr && last->next != nullptr) last = last->next;
    if (last == nullptr) {
      tag->limit.listeners.store(listener, std::memory_order_relaxed);
    } else {
      last->next = listener;
    }
    g_listeners.fetch_add(1, std::memory_order_relaxed);
  }
  tag->limit.forget_failures();
  note(tag);
  return true;
}

bool remove_listener(Tag* tag, PressureFunction call, void* arg) {
  limits_lock.acquire();
  Listener* before = nullptr;
  Listener* listener = tag->limit.listeners.load(std::memory_order_relaxed);
  while (listener != nullptr && (listener->call != call || listener->arg != arg)) {
    before = listener;
    listener = listener->next;
  }
  if (listener != nullptr) {
    if (before == nullptr) {
      tag->limit.listeners.store(listener->next, std::memory_order_relaxed);
    } else {
      before->next = listener->next;
    }
    g_listeners.fetch_sub(1, std::memory_order_relaxed);
    while (tag->limit.called == listener && tag->limit.caller != Lock::me()) {
      limits_lock.release();
      os::sleep_ms(1);
      limits_lock.acquire();
    }
    // Who calls it now is this thread, and does not look at it again.
    if (tag->limit.called == listener) tag->limit.called = nullptr;
  }
  limits_lock.release();
  if (listener == nullptr) return false;
  meta::release(listener, sizeof *listener);
  return true;
}

namespace {

unsigned tell_those_of(Tag* tag, bool all) {
  constexpr unsigned kMostCalls = 256;  // should each call bring about the next
  if (tag->limit.listeners.load(std::memory_order_relaxed) == nullptr) return 0;
  unsigned calls = 0;
  limits_lock.acquire();
  if (tag->limit.caller != 0) {
    limits_lock.release();
    // It looks at the level again before it ends.
    return all ? wait_for_caller(tag) : 0;
  }
  tag->limit.caller = Lock::me();
  const uint64_t round = g_calls;
  while (calls < kMostCalls) {
    Call call = next_call(tag, all, round);
    if (call.function == nullptr) break;
    limits_lock.release();
    ++calls;
    limits_met.in_listener = true;
    // A thread that ended in here would leave the tag's caller behind.
    int cancel_state = os::forbid_cancellation();
    call.function(tag->id, static_cast<int>(call.level), call.arg);
    os::allow_cancellation(cancel_state);
    limits_met.in_listener = false;
    limits_lock.acquire();
  }
  tag->limit.called = nullptr;
  tag->limit.caller = 0;
  limits_lock.release();
  // Who came meanwhile left it to us to look at the level.
  if (all) note(tag);
  return calls;
}

}  // namespace

unsigned tell_listeners(Tag* tag, bool all) {
  if (g_listeners.load(std::memory_order_relaxed) == 0) return 0;
  unsigned calls = tell_those_of(tag, all);
  // A tag that becomes another meanwhile is told of the level that it has as that.
  for (uint32_t id = 0; id < tag_limit(); ++id) {
    Tag* below = find_tag(id);
    if (below == nullptr || below == tag || !is_within(below, tag)) continue;
    calls += tell_those_of(below, all);
  }
  return calls;
}

}  // namespace tally::core
