// A tag's level and who is told of it: tag/limit.cpp's follow, note and tell_listeners against
// tag/tag.cpp's charges, which look at two bounds without a lock.
#include "checker.h"

namespace tally::model {
namespace {

// Threads that each take three bytes and give them back, twice; the first keeps the last. Above two
// bytes the level is soft; it is normal again below two.
struct LevelModel {
  static constexpr int kThreads = 2;
  static constexpr uint8_t kSoft = 2, kNone = 99;

  bool follow_looks_again = true;     // at what is held, once the bounds are set
  bool note_is_cleared_first = true;  // before the listeners are told
  bool caller_ends_locked = true;     // in one step with its last look at the level

  struct State {
    uint8_t held;
    uint8_t level;  // 1: soft
    uint8_t alarm, calm;
    uint8_t lock;    // 0, or 1 + who holds it
    uint8_t caller;  // likewise
    uint8_t noted;
    uint8_t told;
    uint8_t at[kThreads];
    uint8_t back[kThreads];  // where note or tell go on
    uint8_t saw[kThreads];
    uint8_t listed[kThreads];  // the tag is in the thread's list
    uint8_t rounds[kThreads];  // left
  };
  enum Place : uint8_t {
    kTake,
    kLookAtAlarm,
    kTellOfTake,
    kGive,
    kLookAtCalm,
    kTellOfGive,
    kRound,
    kNote,
    kReadHeld,
    kSetAlarm,
    kSetCalm,
    kReadAgain,
    kList,
    kTell,
    kBecomeCaller,
    kPick,
    kCall,
    kCallerEnds,
    kTold,
    kEnd = 99
  };

  State start() const {
    State s = {};
    s.alarm = kSoft;
    for (uint8_t& rounds : s.rounds) rounds = 2;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    bool wants_lock =
        s.at[t] == kNote || s.at[t] == kBecomeCaller || (s.at[t] == kPick && s.lock != t + 1);
    return wants_lock && s.lock != 0 ? 0 : 1;
  }

  static uint8_t level_at(uint8_t level, uint8_t held) {
    return held >= (level == 0 ? kSoft + 1 : kSoft) ? 1 : 0;
  }

  const char* step(State& s, int t, int /*choice*/) const {
    if (s.at[t] >= kTell) return tell(s, t);
    if (s.at[t] >= kNote) return note(s, t);
    uint8_t& at = s.at[t];
    switch (at) {
      case kTake:
        s.saw[t] = s.held = static_cast<uint8_t>(s.held + 3);
        at = kLookAtAlarm;
        return nullptr;
      case kLookAtAlarm:
        s.back[t] = kTellOfTake;
        at = s.saw[t] > s.alarm ? kNote : kTellOfTake;
        return nullptr;
      case kTellOfTake:
      case kTellOfGive:
        s.back[t] = at == kTellOfTake ? kGive : kRound;
        if (t == 0 && at == kTellOfTake && s.rounds[t] == 1) s.back[t] = kRound;
        at = s.listed[t] != 0 ? uint8_t{kTell} : s.back[t];
        return nullptr;
      case kGive:
        s.saw[t] = s.held = static_cast<uint8_t>(s.held - 3);
        at = kLookAtCalm;
        return nullptr;
      case kLookAtCalm:
        s.back[t] = kTellOfGive;
        at = s.saw[t] < s.calm ? kNote : kTellOfGive;
        return nullptr;
      default:
        at = --s.rounds[t] == 0 ? kEnd : kTake;
        return nullptr;
    }
  }

  const char* note(State& s, int t) const {
    uint8_t& at = s.at[t];
    switch (at) {
      case kNote:
        s.lock = static_cast<uint8_t>(1 + t);
        at = kReadHeld;
        return nullptr;
      case kReadHeld:
        s.level = level_at(s.level, s.held);
        at = kSetAlarm;
        return nullptr;
      case kSetAlarm:
        s.alarm = s.level == 0 ? kSoft : kNone;
        at = kSetCalm;
        return nullptr;
      case kSetCalm:
        s.calm = s.level == 0 ? 0 : kSoft;
        at = kReadAgain;
        return nullptr;
      case kReadAgain:
        if (follow_looks_again && level_at(s.level, s.held) != s.level) {
          at = kReadHeld;
          return nullptr;
        }
        s.lock = 0;
        at = kList;
        return nullptr;
      default:
        if (s.noted == 0) s.listed[t] = 1;
        s.noted = 1;
        at = s.back[t];
        return nullptr;
    }
  }

  const char* tell(State& s, int t) const {
    uint8_t& at = s.at[t];
    const auto me = static_cast<uint8_t>(1 + t);
    switch (at) {
      case kTell:
        s.listed[t] = 0;
        if (note_is_cleared_first) s.noted = 0;
        at = kBecomeCaller;
        return nullptr;
      case kBecomeCaller:
        at = kTold;
        if (s.caller != 0) return nullptr;
        s.caller = me;
        s.lock = me;
        at = kPick;
        return nullptr;
      case kPick:
        s.lock = 0;
        if (s.told != s.level) {
          s.told = s.level;
          at = kCall;
          return nullptr;
        }
        if (caller_ends_locked) s.caller = 0;
        at = caller_ends_locked ? kTold : kCallerEnds;
        return nullptr;
      case kCall:
        if (s.caller != me) return "two threads call a tag's listeners at once";
        at = kPick;
        return nullptr;
      case kCallerEnds:
        s.caller = 0;
        at = kTold;
        return nullptr;
      default:
        if (!note_is_cleared_first) s.noted = 0;
        at = s.back[t];
        return nullptr;
    }
  }

  const char* broken(const State& /*s*/) const { return nullptr; }
  const char* broken_at_end(const State& s) const {
    if (s.held != 3 || s.lock != 0 || s.caller != 0) return "something is left";
    if (s.level != 1) return "the level is not that of what is held";
    if (s.told != s.level) return "the last change of the level is told to nobody";
    return nullptr;
  }
};

// What is held is one word with the number of the limit's changes; a charge reads the word, then
// the limit, and adds by compare-and-swap.
struct AccountModel {
  static constexpr int kThreads = 3;
  static constexpr int kSetter = 2;
  static constexpr uint8_t kEnd = 99;

  bool word_counts_changes = true;

  struct State {
    uint8_t held, changes;
    uint8_t limit;
    uint8_t bound;  // once the lower limit is set: never more than this may be held
    uint8_t at[kThreads];
    uint8_t saw_held[kThreads], saw_changes[kThreads];
    uint8_t tries[kThreads];
  };

  State start() const {
    State s = {};
    s.limit = 4;
    s.bound = 4;
    for (uint8_t& tries : s.tries) tries = 3;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State&, int) const { return 1; }

  const char* step(State& s, int t, int /*choice*/) const {
    uint8_t& at = s.at[t];
    if (t == kSetter) {
      switch (at++) {
        case 0:
          s.limit = 1;
          return nullptr;
        case 1:
          if (word_counts_changes) ++s.changes;
          return nullptr;
        default:  // tally_limit_set has returned
          s.bound = s.held > s.limit ? s.held : s.limit;
          at = kEnd;
          return nullptr;
      }
    }
    switch (at) {
      case 0:
        s.saw_held[t] = s.held;
        s.saw_changes[t] = s.changes;
        at = s.tries[t]-- == 0 ? kEnd : 1;
        return nullptr;
      case 1:
        at = s.saw_held[t] + 1 > s.limit ? kEnd : 2;
        return nullptr;
      case 2: {
        bool same = s.saw_held[t] == s.held && s.saw_changes[t] == s.changes;
        if (same) ++s.held;
        at = same ? 3 : 0;
        return nullptr;
      }
      default:
        --s.held;
        at = 0;
        return nullptr;
    }
  }
  const char* broken(const State& s) const {
    return s.held > s.bound ? "a tag grows above a limit that was set" : nullptr;
  }
  const char* broken_at_end(const State& s) const {
    return s.held != 0 ? "something is left" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  LevelModel level;
  verdict.holds("levels and who is told of them", level);
  level = {};
  level.follow_looks_again = false;
  verdict.fails("without a second look at what is held", level);
  level = {};
  level.note_is_cleared_first = false;
  verdict.fails("with the note cleared after the listeners were told", level);
  level = {};
  level.caller_ends_locked = false;
  verdict.fails("with a caller that ends after its last look", level);
  AccountModel account;
  verdict.holds("a limit that is lowered while others charge", account);
  account = {};
  account.word_counts_changes = false;
  verdict.fails("without the number of changes in the word", account);
  return verdict.exit_code();
}
