// One slab between its owner, threads that free its blocks, and a purge: heap/slab.cpp's push,
// wake, look_at_woken, park, collect, refill, on_level and release_empty, step by step.
//
// Blocks are bits. Each is in exactly one place: the slab's free list, its remote list, the heap's
// list (in hand), or with a user. The owner's plain stores to `level` go through a store buffer, as
// on x86: others see them later, in order, at the latest when the owner takes or opens a lock.
#include <bit>

#include "checker.h"

namespace tally::model {
namespace {

struct SlabModel {
  static constexpr int kThreads = 5;
  static constexpr int kOwner = 0, kFirst = 1, kSecond = 2, kPurger = 3, kBuffer = 4;

  // ---- What is varied.
  unsigned capacity = 3;
  unsigned wake_level = 2;
  uint8_t owners_blocks = 1, firsts_blocks = 2, seconds_blocks = 4;
  bool parked_at_start = false;
  uint8_t owner_steps = 3;
  uint8_t purges = 1;
  // ---- What the protocol rests on; each can be left out.
  bool park_looks_again = true;      // at the remote list, after it said so
  bool look_looks_again = true;      // whether the slab is still the heap's, with the lock
  bool clear_before_look = true;     // the mark that the slab is in the list
  bool on_level_looks_again = true;  // likewise
  bool push_before_look = true;      // at level and parked
  bool release_counts_remote =
      true;  // all_back compares with the remote list, not with nothing live

  struct State {
    uint8_t lock;                // 0, or 1 + who holds it
    uint8_t bound;               // slab->heap is the heap
    uint8_t free, remote, hand;  // blocks
    uint8_t user[3];             // blocks
    uint8_t moving;              // blocks on their way from remote to free, the owner's
    uint8_t parked, linked;
    uint8_t woken, listed;       // marked as in the list of slabs to look at; in it
    uint8_t out, floor;          // of level, in memory
    uint8_t own_out, own_floor;  // as the owner sees it
    uint8_t pending;             // stores in the buffer
    uint8_t pending_out[3], pending_floor[3];
    uint8_t at[4];  // program counters
    uint8_t saw_out[4], saw_returned[4];
    uint8_t steps, purges;  // left
  };

  enum Place : uint8_t {
    kIdle,
    // wake
    kHeap,
    kMark,
    kList,
    // look_at_woken
    kTakeList,
    kClear,
    kRecheck,
    kAllBack1,
    kAllBack2,
    kWake1,
    kWake2,
    kLateClear,
    kUnlock,
    // push
    kLookOut,
    kLookParked,
    kLatePush,
    // on_level
    kLevelLock,
    kLevelRecheck,
    kLevelTake,
    kLevelAdd,
    kLevelAllBack1,
    kLevelAllBack2,
    kLevelWake,
    // refill
    kRefillLock,
    kRefillSlab,
    kRefillTake,
    kRefillAdd,
    kRefillHand,
    kPark1,
    kPark2,
    kPark3,
    // purge
    kPurgeLook,
    kPurgeAllBack1,
    kPurgeAllBack2,
    kEnd
  };

  static unsigned count(unsigned mask) { return static_cast<unsigned>(std::popcount(mask)); }
  static uint8_t lowest(uint8_t mask) { return static_cast<uint8_t>(mask & -mask); }
  uint8_t all() const { return static_cast<uint8_t>((1U << capacity) - 1); }

  State start() const {
    State s = {};
    s.bound = 1;
    s.user[kOwner] = owners_blocks;
    s.user[kFirst] = firsts_blocks;
    s.user[kSecond] = seconds_blocks;
    s.out = s.own_out = static_cast<uint8_t>(capacity);
    s.floor = s.own_floor = parked_at_start ? static_cast<uint8_t>(wake_level) : uint8_t{0};
    s.parked = parked_at_start;
    s.linked = !parked_at_start;
    s.steps = owner_steps;
    s.purges = purges;
    return s;
  }

  bool done(const State& s, int t) const { return t == kBuffer ? s.pending == 0 : s.at[t] == kEnd; }
  int where(const State& s, int t) const { return t == kBuffer ? 0 : s.at[t]; }

  int choices(const State& s, int t) const {
    if (t == kBuffer) return s.pending != 0 ? 1 : 0;
    // A locked instruction waits for the buffer.
    bool drained = t != kOwner || s.pending == 0;
    switch (s.at[t]) {
      case kIdle:
        if (t == kPurger) return s.purges != 0 && s.lock != 0 ? 0 : 1;
        return t == kOwner ? 3 : 2;
      case kLevelLock:
      case kRefillLock:
        return s.lock == 0 && drained ? 1 : 0;
      case kTakeList:
      case kClear:
      case kLevelTake:
      case kRefillTake:
      case kPark2:
      case kUnlock:
        return drained ? 1 : 0;
      case kAllBack2:
      case kLevelAllBack2:
        return 2;  // whether it is kept
      case kRefillSlab:
        return 2;  // whether an empty one is carved anew
      default:
        return 1;
    }
  }

  // ---- Parts of steps.

  void store_level(State& s, unsigned out, unsigned floor) const {
    if (s.pending == 3) flush(s);
    s.own_out = s.pending_out[s.pending] = static_cast<uint8_t>(out);
    s.own_floor = s.pending_floor[s.pending] = static_cast<uint8_t>(floor);
    ++s.pending;
  }
  void flush(State& s) const {
    s.out = s.pending_out[0];
    s.floor = s.pending_floor[0];
    for (int i = 0; i < 2; ++i) {
      s.pending_out[i] = s.pending_out[i + 1];
      s.pending_floor[i] = s.pending_floor[i + 1];
    }
    s.pending_out[2] = s.pending_floor[2] = 0;
    --s.pending;
  }
  // What this thread reads of level.
  static unsigned out_for(const State& s, int t) { return t == kOwner ? s.own_out : s.out; }

  const char* release(State& s) const {
    if (!s.bound) return "a slab is released twice";
    if ((s.hand | s.user[0] | s.user[1] | s.user[2] | s.moving) != 0)
      return "a slab is released that has a block out";
    if (s.pending != 0) return "a slab is released before its owner's stores arrived";
    s.bound = s.linked = s.parked = s.free = s.remote = 0;
    s.out = s.own_out = s.floor = s.own_floor = 0;
    return nullptr;
  }
  static void link(State& s) {
    s.linked = 1;
    s.parked = 0;
  }
  static void finish(State& s, int t, Place next = kIdle) {
    s.at[t] = next;
    s.saw_out[t] = s.saw_returned[t] = 0;
  }
  bool is_all_back(const State& s, int t) const {
    return release_counts_remote ? s.saw_out[t] == count(s.remote)
                                 : s.saw_out[t] <= count(s.remote) + 1;
  }

  const char* step(State& s, int t, int choice) const {
    if (t == kBuffer) {
      flush(s);
      return nullptr;
    }
    switch (s.at[t]) {
      case kIdle:
        if (t == kOwner) return owner_begins(s, choice);
        if (t == kPurger) return purger_begins(s);
        return pusher_begins(s, t, choice);
      case kHeap:
        finish(s, t, s.bound ? kMark : kIdle);
        return nullptr;
      case kMark:
        finish(s, t, s.woken ? kIdle : kList);
        s.woken = 1;
        return nullptr;
      case kList:
        if (s.listed) return "a slab is in the list twice";
        s.listed = 1;
        finish(s, t);
        return nullptr;
      case kLevelLock:
      case kRefillLock:
        s.lock = static_cast<uint8_t>(1 + t);
        s.at[t] = s.at[t] == kLevelLock ? kLevelRecheck : kTakeList;
        return nullptr;
      case kUnlock:
        s.lock = 0;
        finish(s, t);
        return nullptr;
      default:
        return s.lock == 1 + t ? locked_step(s, t, choice) : push_step(s, t);
    }
  }

  // ---- The owner.

  const char* owner_begins(State& s, int choice) const {
    if (choice == 2 || s.steps == 0) {
      s.at[kOwner] = kEnd;
      return nullptr;
    }
    if (choice == 0) {
      if (s.user[kOwner] == 0 || !s.bound) return nullptr;
      --s.steps;
      uint8_t block = lowest(s.user[kOwner]);
      s.user[kOwner] ^= block;
      s.free |= block;
      store_level(s, s.own_out - 1U, s.own_floor);
      if (s.own_out == s.own_floor) s.at[kOwner] = kLevelLock;
      return nullptr;
    }
    --s.steps;
    if (s.hand == 0) {
      s.at[kOwner] = kRefillLock;
    } else {
      pop(s);
    }
    return nullptr;
  }
  static void pop(State& s) {
    uint8_t block = lowest(s.hand);
    s.hand ^= block;
    s.user[kOwner] |= block;
  }

  // ---- Who frees a block of another's slab.

  const char* pusher_begins(State& s, int t, int choice) const {
    if (s.user[t] == 0) {
      s.at[t] = kEnd;
      return nullptr;
    }
    if (!push_before_look) {
      s.saw_returned[t] = static_cast<uint8_t>(count(s.remote) + 1);
      s.at[t] = kLookOut;
      return nullptr;
    }
    uint8_t chain = choice == 0 ? lowest(s.user[t]) : s.user[t];
    s.user[t] ^= chain;
    s.remote |= chain;
    s.saw_returned[t] = static_cast<uint8_t>(count(s.remote));
    s.at[t] = kLookOut;
    return nullptr;
  }
  const char* push_step(State& s, int t) const {
    if (s.at[t] == kLatePush) {
      uint8_t chain = lowest(s.user[t]);
      s.user[t] ^= chain;
      s.remote |= chain;
      bool go_on = s.saw_out[t] == s.saw_returned[t];
      finish(s, t, go_on ? kHeap : kIdle);
      return nullptr;
    }
    bool go_on;
    if (s.at[t] == kLookOut) {
      s.saw_out[t] = s.out;
      unsigned left = unsigned{s.out} - s.saw_returned[t];
      if (left != 0 && left <= wake_level) {
        s.at[t] = kLookParked;
        return nullptr;
      }
      go_on = left == 0;
    } else {
      go_on = s.parked;
    }
    if (!push_before_look) {
      // What it decided, in saw_out == saw_returned, before it pushes.
      s.saw_out[t] = go_on ? s.saw_returned[t] : static_cast<uint8_t>(s.saw_returned[t] + 1);
      s.at[t] = kLatePush;
      return nullptr;
    }
    finish(s, t, go_on ? kHeap : kIdle);
    return nullptr;
  }

  const char* purger_begins(State& s) const {
    if (s.purges == 0) {
      s.at[kPurger] = kEnd;
      return nullptr;
    }
    --s.purges;
    s.lock = 1 + kPurger;
    s.at[kPurger] = kTakeList;
    return nullptr;
  }

  // ---- With the lock.

  // After the look at the list the owner refills and the purge goes on.
  static Place after_list(int t) { return t == kOwner ? kRefillSlab : kPurgeLook; }
  Place after_look(int t) const { return clear_before_look ? after_list(t) : kLateClear; }

  const char* locked_step(State& s, int t, int choice) const {
    switch (s.at[t]) {
      // look_at_woken
      case kTakeList:
        s.at[t] = !s.listed ? after_list(t) : clear_before_look ? kClear : kRecheck;
        s.listed = 0;
        return nullptr;
      case kClear:
        s.woken = 0;
        s.at[t] = kRecheck;
        return nullptr;
      case kLateClear:
        s.woken = 0;
        s.at[t] = after_list(t);
        return nullptr;
      case kRecheck:
        if (!s.bound && !look_looks_again) return "a look at a slab that is nobody's";
        s.at[t] = s.bound ? kAllBack1 : after_look(t);
        return nullptr;
      case kAllBack1:
      case kLevelAllBack1:
      case kPurgeAllBack1:
        s.saw_out[t] = static_cast<uint8_t>(out_for(s, t));
        ++s.at[t];
        return nullptr;
      case kAllBack2:
        if (!is_all_back(s, t)) {
          s.at[t] = kWake1;
          return nullptr;
        }
        s.at[t] = after_look(t);
        return keep_or_release(s, choice);
      case kWake1:
        s.saw_out[t] = static_cast<uint8_t>(out_for(s, t));
        s.at[t] = s.parked ? kWake2 : after_look(t);
        return nullptr;
      case kWake2:
        if (unsigned{s.saw_out[t]} - count(s.remote) <= wake_level) link(s);
        s.at[t] = after_look(t);
        return nullptr;
      // on_level
      case kLevelRecheck:
        if (!s.bound) {
          if (!on_level_looks_again) return "on_level works on a slab that is nobody's";
          s.at[t] = kUnlock;
          return nullptr;
        }
        store_level(s, s.own_out, 0);
        s.at[t] = kLevelTake;
        return nullptr;
      case kLevelAllBack2:
        if (s.saw_out[t] != count(s.remote)) {
          s.at[t] = kLevelWake;
          return nullptr;
        }
        // The lock's opening is a locked instruction: the owner's own stores are out before the
        // slab is another's.
        while (s.pending != 0) flush(s);
        s.at[t] = kUnlock;
        return keep_or_release(s, choice);
      case kLevelWake:
        if (s.parked && unsigned{s.own_out} - count(s.remote) <= wake_level) link(s);
        while (s.pending != 0) flush(s);
        s.at[t] = kUnlock;
        return nullptr;
      case kLevelTake:
      case kRefillTake:
        if (s.at[t] == kLevelTake || s.free == 0) {
          s.moving = s.remote;
          s.remote = 0;
        }
        ++s.at[t];
        return nullptr;
      case kLevelAdd:
      case kRefillAdd:
        if (s.moving != 0) {
          store_level(s, s.own_out - count(s.moving), 0);
          s.free |= s.moving;
          s.moving = 0;
        }
        ++s.at[t];
        return nullptr;
      // purge
      case kPurgeLook:
        s.at[t] = s.bound && s.linked ? kPurgeAllBack1 : kUnlock;
        return nullptr;
      case kPurgeAllBack2:
        s.at[t] = kUnlock;
        return is_all_back(s, t) ? release(s) : nullptr;
      default:
        return refill_step(s, choice);
    }
  }

  // An empty slab.
  const char* keep_or_release(State& s, int choice) const {
    if (choice == 1) return release(s);
    link(s);
    return nullptr;
  }

  bool is_nearly_full(const State& s) const { return s.own_out - count(s.remote) > wake_level; }

  const char* refill_step(State& s, int choice) const {
    switch (s.at[kOwner]) {
      case kRefillSlab:
        if (!s.bound) {
          // The same slots for a new slab of the same heap: stale pushers meet it.
          s.bound = 1;
          s.free = all();
          s.moving = s.remote = 0;
          link(s);
          store_level(s, 0, 0);
        }
        if (s.linked && choice == 1 && s.own_out == count(s.remote)) {
          s.free = all();
          s.remote = 0;
          store_level(s, 0, 0);
        }
        // Parked: served from elsewhere.
        s.at[kOwner] = !s.linked ? kUnlock : is_nearly_full(s) ? kPark1 : kRefillTake;
        return nullptr;
      case kRefillHand:
        if (s.free == 0) return "a slab has blocks that are nowhere";
        store_level(s, capacity, 0);
        if (s.hand != 0) return "a heap's list is overwritten";
        s.hand = s.free;
        s.free = 0;
        pop(s);
        s.at[kOwner] = kUnlock;
        return nullptr;
      case kPark1:
        s.linked = 0;
        store_level(s, s.own_out, wake_level);
        s.at[kOwner] = kPark2;
        return nullptr;
      case kPark2:
        s.parked = 1;
        s.at[kOwner] = park_looks_again ? kPark3 : kUnlock;
        return nullptr;
      case kPark3:
        if (is_nearly_full(s)) {
          s.at[kOwner] = kUnlock;
          return nullptr;
        }
        store_level(s, s.own_out, 0);
        link(s);
        s.at[kOwner] = kRefillTake;
        return nullptr;
      default:
        return "the model is wrong";
    }
  }

  // ---- What must hold.

  const char* broken(const State& s) const {
    if (!s.bound) return nullptr;
    unsigned sum = count(s.free) + count(s.remote) + count(s.hand) + count(s.moving);
    unsigned any = s.free | s.remote | s.hand | s.moving;
    for (uint8_t user : s.user) {
      sum += count(user);
      any |= user;
    }
    if (sum > count(any)) return "a block is in two places";
    if (any != all()) return "a block is lost";
    if (s.linked && s.parked) return "a slab is parked and available";
    return nullptr;
  }

  const char* broken_at_end(const State& s) const {
    if (s.woken != s.listed) return "a slab is marked as in the list, and is not";
    if (!s.bound) return nullptr;
    if (s.out != capacity - count(s.free)) return "level is not what is out";
    if (!s.linked && !s.parked) return "a slab is neither parked nor available";
    // Neither what the owner freed nor what the others did is enough to wake it. Both together may
    // be, until the next block comes back: the owner counts only its own, so less than twice the
    // wake level's share can be free and parked. What is all back, and seen by neither of two, is
    // then available, where the purge finds it. What is in the list will be looked at.
    if (!s.parked || s.listed) return nullptr;
    if (s.out <= wake_level || capacity - count(s.remote) <= wake_level) return "a wake-up is lost";
    if (s.out == count(s.remote)) return "an empty slab is parked";
    return nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  for (bool parked : {false, true}) {
    for (unsigned shape = 0; shape < 5; ++shape) {
      SlabModel model;
      model.parked_at_start = parked;
      if (shape == 1) {
        model.owners_blocks = 3;
        model.firsts_blocks = 4;
        model.seconds_blocks = 0;
        model.owner_steps = 4;
      } else if (shape == 2) {
        model.capacity = 4;
        model.owners_blocks = 1;
        model.firsts_blocks = 6;
        model.seconds_blocks = 8;
      } else if (shape == 3) {
        model.capacity = 4;
        model.owners_blocks = 3;
        model.firsts_blocks = 4;
        model.seconds_blocks = 8;
        model.owner_steps = 4;
      } else if (shape == 4) {
        // Parked with a block free.
        model.capacity = 5;
        model.wake_level = 3;
        model.owners_blocks = 3;
        model.firsts_blocks = 4;
        model.seconds_blocks = 24;
        model.owner_steps = 5;
      }
      char name[80];
      snprintf(name, sizeof name, "slab of %u, wake level %u, %s, shape %u", model.capacity,
               model.wake_level, parked ? "parked" : "available", shape);
      verdict.holds(name, model);
    }
  }
  SlabModel model;
  model.park_looks_again = false;
  verdict.fails("without park's second look at the remote list", model);
  model = {};
  model.look_looks_again = false;
  verdict.fails("without the second look at the heap", model);
  model = {};
  model.clear_before_look = false;
  verdict.fails("with the mark cleared after the look", model);
  model = {};
  model.on_level_looks_again = false;
  verdict.fails("without on_level's second look at the heap", model);
  model = {};
  model.push_before_look = false;
  verdict.fails("with the look before the push", model);
  model = {};
  model.release_counts_remote = false;
  verdict.fails("with a release one block too early", model);
  return verdict.exit_code();
}
