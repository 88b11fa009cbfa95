// Tags that retire and whose ids become others': tag/tag.cpp's retire_tag and reap_retired against
// heap/thread.cpp's make_heap and retire_heap and heap/large.cpp's free_large, and against who
// reads tags. And what a recycled heap does to slab.cpp's after_push.
#include "checker.h"

namespace tally::model {
namespace {

// One id. A allocates under it and gives its heap up; B retires it; C makes other tags, and so
// reaps; D frees the last large block.
struct TagModel {
  static constexpr int kThreads = 4;
  static constexpr int kAllocates = 0, kRetires = 1, kCreates = 2, kFrees = 3;

  bool make_heap_looks_again = true;  // whether the tag is live, with tags_lock
  bool make_heap_locks = true;        // tags_lock
  bool reap_counts_heaps = true;
  bool totals_keep_it = true;  // a tag is used again when its total, and not its own, is zero
  bool own_is_inside =
      true;  // the own bytes are put on last and come off first: never above the total

  enum TagState : uint8_t { kLive, kRetired };
  struct State {
    uint8_t tags_lock;
    uint8_t state;
    uint8_t generation;  // how often the id was used again
    uint8_t heaps;
    uint8_t own, total;  // bytes, in blocks; total of the tag itself stands for all above it
    uint8_t bound;       // 1 + generation that A's heap was bound to
    uint8_t saw;         // the generation that A took to be the one it means
    uint8_t at[4];
    uint8_t rounds;  // of C, left
  };

  State start() const {
    State s = {};
    s.own = s.total = 1;
    s.rounds = 2;
    return s;
  }
  static constexpr uint8_t kEnd = 99;
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    bool wants_lock = (t == kAllocates && s.at[t] == 1 && make_heap_locks) ||
                      (t == kRetires && s.at[t] == 0) ||
                      (t == kCreates && s.at[t] == 0 && s.rounds != 0);
    return wants_lock && s.tags_lock != 0 ? 0 : 1;
  }

  const char* step(State& s, int t, int /*choice*/) const {
    switch (t) {
      case kAllocates:
        return allocates(s);
      case kRetires:
        return retires(s);
      case kCreates:
        return creates(s);
      default:
        return frees(s);
    }
  }

  const char* allocates(State& s) const {
    uint8_t& at = s.at[kAllocates];
    switch (at++) {
      case 0:  // allocate_tagged: the tag is live, and still the one that was meant
        if (s.state != kLive || s.generation != 0) at = kEnd;
        return nullptr;
      case 1:
        if (make_heap_locks) s.tags_lock = 1 + kAllocates;
        return nullptr;
      case 2:
        // Who uses an id that another thread retires at the same time may meet its next tag; but
        // one, and the same from here on.
        s.saw = s.generation;
        if (make_heap_looks_again && s.state != kLive) at = 20;
        return nullptr;
      case 3:
        if (make_heap_locks && s.state != kLive) return "a retired tag gets a heap";
        ++s.heaps;
        s.bound = static_cast<uint8_t>(1 + s.saw);
        return nullptr;
      case 4:
        if (make_heap_locks) s.tags_lock = 0;
        return nullptr;
      case 5:
        return charge(s, !own_is_inside);
      case 6:
        return charge(s, own_is_inside);
      case 7:
        return uncharge(s, own_is_inside);
      case 8:
        return uncharge(s, !own_is_inside);
      case 9:  // retire_heap
        s.bound = 0;
        --s.heaps;
        at = kEnd;
        return nullptr;
      case 20:
        if (make_heap_locks) s.tags_lock = 0;
        at = kEnd;
        return nullptr;
      default:
        return "the model is wrong";
    }
  }
  static const char* charge(State& s, bool own) {
    ++(own ? s.own : s.total);
    return nullptr;
  }
  static const char* uncharge(State& s, bool own) {
    uint8_t& figure = own ? s.own : s.total;
    if (figure == 0) return "a total wraps below zero";
    --figure;
    return nullptr;
  }

  const char* retires(State& s) const {
    uint8_t& at = s.at[kRetires];
    switch (at++) {
      case 0:
        s.tags_lock = 1 + kRetires;
        return nullptr;
      case 1:
        s.state = kRetired;
        return nullptr;
      default:
        s.tags_lock = 0;
        at = kEnd;
        return nullptr;
    }
  }

  const char* creates(State& s) const {
    uint8_t& at = s.at[kCreates];
    switch (at++) {
      case 0:
        if (s.rounds == 0) {
          at = kEnd;
          return nullptr;
        }
        --s.rounds;
        s.tags_lock = 1 + kCreates;
        if (s.state != kRetired) at = 4;
        return nullptr;
      case 1:
        if (reap_counts_heaps && s.heaps != 0) at = 4;
        return nullptr;
      case 2:
        if ((totals_keep_it ? s.total : s.own) != 0) at = 4;
        return nullptr;
      case 3:
        ++s.generation;
        s.own = s.total = 0;
        s.state = kLive;
        return nullptr;
      default:
        s.tags_lock = 0;
        at = 0;
        return nullptr;
    }
  }

  const char* frees(State& s) const {
    uint8_t& at = s.at[kFrees];
    switch (at++) {
      case 0:
        return uncharge(s, own_is_inside);
      default:
        at = kEnd;
        return uncharge(s, !own_is_inside);
    }
  }

  const char* broken(const State& s) const {
    if (s.bound != 0 && s.bound != 1 + s.generation)
      return "a heap is bound to a tag that has become another";
    if (s.own > s.total) return "a tag's own bytes are more than its total";
    return nullptr;
  }
  const char* broken_at_end(const State& s) const {
    if (s.heaps != 0 || s.own != 0 || s.total != 0)
      return "something is left of a tag that holds nothing";
    return nullptr;
  }
};

// Who reads names without a lock, and whoever makes a tag of an unused id: TagReader and the end of
// reap_retired. One id; turns come whether something has left or not.
struct ReadersModel {
  static constexpr int kThreads = 3;
  static constexpr int kReaper = 2;  // the others read

  bool is_counted_first = true;    // and finds its tag then
  bool turns_wait = true;          // for who came in the turn before
  bool leaves_before_turn = true;  // what is unused once nobody of that turn reads

  struct State {
    uint8_t turn;
    uint8_t counts[2];
    uint8_t is_used;
    uint8_t generation;
    uint8_t is_leaving, has_left;
    uint8_t came[2];
    uint8_t reads[2];  // 1 + the generation that it found
    uint8_t rounds[3];
    uint8_t at[3];
  };
  static constexpr uint8_t kEnd = 99;

  State start() const {
    State s = {};
    s.is_used = 1;
    s.rounds[0] = s.rounds[1] = 2;
    s.rounds[kReaper] = 6;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const { return s.at[t] == 0 ? 2 : 1; }

  const char* step(State& s, int t, int choice) const {
    return t == kReaper ? reaps(s, choice) : reads(s, t, choice);
  }
  const char* reads(State& s, int t, int choice) const {
    uint8_t& at = s.at[t];
    switch (at++) {
      case 0:  // whichever turn that was: it is read in no order
        s.came[t] = static_cast<uint8_t>(choice);
        if (!is_counted_first && s.is_used) s.reads[t] = static_cast<uint8_t>(1 + s.generation);
        return nullptr;
      case 1:
        ++s.counts[s.came[t]];
        return nullptr;
      case 2:
        if (is_counted_first && s.is_used) s.reads[t] = static_cast<uint8_t>(1 + s.generation);
        return nullptr;
      default:
        s.reads[t] = 0;
        --s.counts[s.came[t]];
        at = --s.rounds[t] == 0 ? kEnd : 0;
        return nullptr;
    }
  }
  const char* reaps(State& s, int choice) const {
    uint8_t& at = s.at[kReaper];
    switch (at++) {
      case 0:
        if (s.rounds[kReaper]-- == 0) {
          at = kEnd;
        } else if (choice == 1 && s.is_used) {
          s.is_used = 0;
          s.is_leaving = 1;
        }
        return nullptr;
      case 1:
        if (turns_wait && s.counts[1 - s.turn] != 0) at = 0;
        return nullptr;
      case 2:
        if (s.has_left || (!leaves_before_turn && s.is_leaving)) {
          s.has_left = s.is_leaving = 0;
          ++s.generation;
          s.is_used = 1;
        }
        return nullptr;
      default:
        s.has_left = s.is_leaving;
        s.is_leaving = 0;
        s.turn = 1 - s.turn;
        at = 0;
        return nullptr;
    }
  }

  const char* broken(const State& s) const {
    for (uint8_t read : s.reads) {
      if (read != 0 && read != 1 + s.generation) return "what is read has become another tag";
    }
    return nullptr;
  }
  const char* broken_at_end(const State& s) const {
    return s.counts[0] != 0 || s.counts[1] != 0 ? "a reader that is gone is still counted"
                                                : nullptr;
  }
};

// A slab's heap is looked up without a lock; until the lock is there the slab may be released, the
// heap given up, recycled by another thread, and be the same slab's heap again: with another
// thread's lock.
struct RebindModel {
  static constexpr int kThreads = 3;
  static constexpr int kPusher = 0, kFirst = 1, kSecond = 2;

  bool looks_at_heap = true;    // again, with the lock
  bool looks_at_thread = true;  // of that heap, likewise

  struct State {
    uint8_t lock[2];      // of the first and the second thread; 0, or 1 + who holds it
    uint8_t slab_heap;    // 1: H
    uint8_t heap_thread;  // of H: 0 or 1
    uint8_t pooled;       // H is nobody's
    uint8_t at[3];
    uint8_t saw_thread;
    uint8_t editing[3];  // H's lists
  };
  static constexpr uint8_t kEnd = 99;

  State start() const {
    State s = {};
    s.slab_heap = 1;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    int at = s.at[t];
    if (t == kPusher && at == 2) return s.lock[s.saw_thread] == 0 ? 1 : 0;
    if (t == kFirst && at == 0) return s.lock[0] == 0 ? 1 : 0;
    if (t == kSecond && (at == 1 || at == 4)) return s.lock[1] == 0 ? 1 : 0;
    return 1;
  }
  const char* step(State& s, int t, int /*choice*/) const {
    uint8_t& at = s.at[t];
    if (t == kPusher) {
      switch (at++) {
        case 0:
          if (s.slab_heap == 0) at = kEnd;
          return nullptr;
        case 1:
          s.saw_thread = s.heap_thread;
          return nullptr;
        case 2:
          s.lock[s.saw_thread] = 1 + kPusher;
          return nullptr;
        case 3:
          if (looks_at_heap && s.slab_heap == 0) at = 7;
          return nullptr;
        case 4:
          if (looks_at_thread && s.heap_thread != s.saw_thread) at = 7;
          return nullptr;
        case 5:
          if (s.slab_heap == 0) return "after_push works on a slab that is nobody's";
          s.editing[t] = 1;
          return nullptr;
        case 6:
          s.editing[t] = 0;
          return nullptr;
        default:  // opens the lock and, if it did nothing, looks anew
          s.lock[s.saw_thread] = 0;
          s.saw_thread = 0;
          at = kEnd;
          return nullptr;
      }
    }
    if (t == kFirst) {
      switch (at++) {
        case 0:
          s.lock[0] = 1 + kFirst;
          return nullptr;
        case 1:
          s.editing[t] = 1;
          return nullptr;
        case 2:  // release, then retire_heap
          s.slab_heap = 0;
          s.pooled = 1;
          s.editing[t] = 0;
          return nullptr;
        default:
          s.lock[0] = 0;
          at = kEnd;
          return nullptr;
      }
    }
    switch (at++) {
      case 0:  // make_heap
        if (!s.pooled) at = kEnd;
        s.pooled = 0;
        return nullptr;
      case 1:
        s.lock[1] = 1 + kSecond;
        return nullptr;
      case 2:
        s.heap_thread = 1;
        return nullptr;
      case 3:
        s.lock[1] = 0;
        return nullptr;
      case 4:  // refill
        s.lock[1] = 1 + kSecond;
        return nullptr;
      case 5:
        s.slab_heap = 1;
        s.editing[t] = 1;
        return nullptr;
      case 6:
        s.editing[t] = 0;
        return nullptr;
      default:
        s.lock[1] = 0;
        at = kEnd;
        return nullptr;
    }
  }
  const char* broken(const State& s) const {
    return s.editing[0] + s.editing[1] + s.editing[2] > 1 ? "two edit one heap's lists at once"
                                                          : nullptr;
  }
  const char* broken_at_end(const State& s) const {
    return s.lock[0] != 0 || s.lock[1] != 0 ? "a lock stays closed" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  TagModel tag;
  verdict.holds("tags that retire and ids that are used again", tag);
  tag = {};
  tag.make_heap_looks_again = false;
  verdict.fails("without make_heap's second look at the tag", tag);
  tag = {};
  tag.make_heap_locks = false;
  verdict.fails("without the lock of tags in make_heap", tag);
  tag = {};
  tag.reap_counts_heaps = false;
  verdict.fails("with a reaper that counts bytes alone", tag);
  tag = {};
  tag.totals_keep_it = false;
  verdict.fails("with a reaper that looks at the tag's own bytes", tag);
  tag = {};
  tag.own_is_inside = false;
  verdict.fails("with the tag's own bytes put on first and taken off last", tag);
  ReadersModel readers;
  verdict.holds("tags that are read while their ids are used again", readers);
  readers = {};
  readers.is_counted_first = false;
  verdict.fails("with a reader that is counted when it has found its tag", readers);
  readers = {};
  readers.turns_wait = false;
  verdict.fails("with turns that wait for nobody", readers);
  readers = {};
  readers.leaves_before_turn = false;
  verdict.fails("with ids that are used again in the turn they left in", readers);
  RebindModel rebind;
  verdict.holds("heaps that are used again", rebind);
  rebind = {};
  rebind.looks_at_heap = false;
  verdict.fails("without after_push's second look at the slab's heap", rebind);
  rebind = {};
  rebind.looks_at_thread = false;
  verdict.fails("without its second look at the heap's thread", rebind);
  return verdict.exit_code();
}
