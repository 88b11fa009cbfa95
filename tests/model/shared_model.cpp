// What threads share: the heaps of the commons and of samples, the table of samples, and the places
// of guarded ones.
//
//   Shared   heap/thread.cpp's make_heap and make_shared_heap for a thread that does not run,
//            heap/commons.cpp's borrow and heap/sampling.cpp's take_block, against a tag that is
//            retired and whose id becomes another's, and purge.cpp's look at idle heaps
//   Sample   heap/sampling.cpp's allocate_sample and free_sample, and sample/profile.cpp's add and
//            remove, of one block that is used again
//   Places   heap/guarded.cpp's allocate and free_block, and a second free at the same time
#include "checker.h"

namespace tally::model {
namespace {

// ---- Two borrow a block each, twice, and free it; one retires the tag; one makes tags, and so
// reaps; one purges.

struct SharedModel {
  static constexpr int kThreads = 5;
  static constexpr int kRetires = 2, kCreates = 3, kPurges = 4;
  static constexpr uint8_t kEnd = 99, kTags = 1, kShared = 2;

  bool make_looks_again = true;     // whether another was first, with the lock
  bool look_comes_first = true;     // at what came back, before the heap is looked up
  bool lender_forgets_lent = true;  // what is lent is in its hand no more
  bool borrow_locks = true;

  struct State {
    uint8_t tags_lock, lock;  // 0, or 1 + who holds it
    uint8_t live, generation;
    uint8_t heap;   // 1 + the generation that it is bound to; 0: there is none
    uint8_t heaps;  // of the tag
    uint8_t slab, out, free, remote;
    uint8_t list, handed;  // the heap's list, and how many its counters say that there are
    uint8_t user[2], found[2];
    uint8_t rounds[2], creations;
    uint8_t at[kThreads];
  };

  State start() const {
    State s = {};
    s.live = 1;
    s.rounds[0] = s.rounds[1] = 2;
    s.creations = 2;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  uint8_t wanted(int t, uint8_t at) const {
    if (t < 2) {
      if (at == 1) return kTags;
      if (at == 4) return borrow_locks ? kShared : 0;
      return at == 0 || at == 2 ? kShared : 0;
    }
    if (at != 0) return 0;
    return t == kPurges ? kShared : kTags;
  }
  int choices(const State& s, int t) const {
    const uint8_t lock = wanted(t, s.at[t]);
    if ((lock == kTags && s.tags_lock != 0) || (lock == kShared && s.lock != 0)) return 0;
    return 1;
  }

  const char* step(State& s, int t, int /*choice*/) const {
    switch (t) {
      case kRetires:
        s.live = 0;
        s.at[t] = kEnd;
        return nullptr;
      case kCreates:
        return creates(s);
      case kPurges:
        return purges(s);
      default:
        return borrows(s, t);
    }
  }

  const char* creates(State& s) const {
    if (!s.live && s.heaps == 0 && s.slab == 0) {
      ++s.generation;
      s.live = 1;
    }
    if (--s.creations == 0) s.at[kCreates] = kEnd;
    return nullptr;
  }

  static void release_if_empty(State& s) {
    if (s.slab && s.out == s.remote) s.slab = s.out = s.free = s.remote = 0;
  }
  static void retire_heap(State& s) {
    s.heap = 0;
    --s.heaps;
  }
  // look_at_woken
  static void look(State& s) {
    release_if_empty(s);
    if (s.heap && !s.slab && !s.live) retire_heap(s);
  }

  const char* purges(State& s) const {
    // drop_heap: what is in hand goes back, by the counters.
    if (s.handed != s.list) return "the counters of what is in hand are not what is in hand";
    s.free = static_cast<uint8_t>(s.free + s.list);
    s.out = static_cast<uint8_t>(s.out - s.list);
    s.list = s.handed = 0;
    release_if_empty(s);
    if (s.heap && !s.slab) retire_heap(s);
    s.at[kPurges] = kEnd;
    return nullptr;
  }

  const char* borrows(State& s, int t) const {
    uint8_t& at = s.at[t];
    const auto me = static_cast<uint8_t>(1 + t);
    switch (at) {
      case 0:  // make_shared_heap
        at = s.heap ? 4 : 1;
        return nullptr;
      case 1:
        if (!s.live) {
          at = kEnd;
          return nullptr;
        }
        s.tags_lock = me;
        at = 2;
        return nullptr;
      case 2:
        if (!(make_looks_again && s.heap)) {
          if (s.heap) return "a shared thread has two heaps for a tag";
          s.heap = static_cast<uint8_t>(1 + s.generation);
          ++s.heaps;
        }
        at = 3;
        return nullptr;
      case 3:
        s.tags_lock = 0;
        at = 4;
        return nullptr;
      case 4:  // borrow, take_block
        if (borrow_locks) s.lock = me;
        look_or_find(s, t, look_comes_first);
        at = 10;
        return nullptr;
      case 10:
        look_or_find(s, t, !look_comes_first);
        at = s.found[t] ? 5 : 8;
        return nullptr;
      case 5:
        if (!s.heap) return "a block is taken from a heap that was given up";
        if (s.list == 0) {
          if (!s.slab) s.slab = 1;
          s.free = 0;
          s.list = 2;
          s.handed = 2;
          s.out = static_cast<uint8_t>(s.out + 2);
        }
        at = 6;
        return nullptr;
      case 6:
        if (s.list == 0) return "two take the same block";
        --s.list;
        if (lender_forgets_lent) --s.handed;
        s.user[t] = 1;
        at = 7;
        return nullptr;
      case 7:
        if (borrow_locks) s.lock = 0;
        at = 9;
        return nullptr;
      case 8:
        if (borrow_locks) s.lock = 0;
        at = kEnd;
        return nullptr;
      default:
        s.user[t] = 0;
        ++s.remote;
        at = --s.rounds[t] == 0 ? kEnd : uint8_t{0};
        return nullptr;
    }
  }
  static void look_or_find(State& s, int t, bool looks) {
    if (looks) look(s);
    if (!looks) s.found[t] = s.heap && s.live ? 1 : 0;
  }

  const char* broken(const State& s) const {
    if (s.heap && s.heap != 1 + s.generation)
      return "a heap is bound to what is another tag by now";
    if (s.user[0] + s.user[1] + s.remote + s.list > s.out) return "more blocks are out than that";
    return nullptr;
  }
  const char* broken_at_end(const State& s) const {
    if (s.tags_lock != 0 || s.lock != 0) return "a lock stays closed";
    return s.handed != s.list ? "the counters of what is in hand are not what is in hand" : nullptr;
  }
};

// ---- One block that two threads take, and a third may free.

struct SampleModel {
  static constexpr int kThreads = 2;
  static constexpr uint8_t kEnd = 99;

  bool forgotten_before_freed = true;
  bool added_by_its_owner = true;  // and not before the block is taken

  struct State {
    uint8_t is_free;
    uint8_t entry;  // of the table: 1 + whose block it is; 0: none
    uint8_t at[kThreads];
    uint8_t rounds[kThreads];
  };

  State start() const {
    State s = {};
    s.is_free = 1;
    s.rounds[0] = s.rounds[1] = 3;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    const int takes = added_by_its_owner ? 0 : 1;
    return s.at[t] == takes && !s.is_free ? 0 : 1;
  }
  const char* step(State& s, int t, int /*choice*/) const {
    uint8_t& at = s.at[t];
    const auto me = static_cast<uint8_t>(1 + t);
    const int first = added_by_its_owner ? 0 : 1;
    if (at == first) {
      s.is_free = 0;
      ++at;
      if (!added_by_its_owner) at = 2;
      return nullptr;
    }
    switch (at) {
      case 0:
      case 1:  // add: an entry whose end was not seen goes
        s.entry = me;
        at = added_by_its_owner ? 2 : 1;
        return nullptr;
      case 2:
        if (s.entry != me) return "a sample that lives is not in the table";
        at = 3;
        return nullptr;
      case 3:
      case 4: {
        const bool forgets = (at == 3) == forgotten_before_freed;
        if (forgets && s.entry != 0 && s.entry != me) return "another block's sample is forgotten";
        if (forgets) s.entry = 0;
        if (!forgets) s.is_free = 1;
        ++at;
        return nullptr;
      }
      default:
        at = --s.rounds[t] == 0 ? kEnd : uint8_t{0};
        return nullptr;
    }
  }
  const char* broken(const State&) const { return nullptr; }
  const char* broken_at_end(const State& s) const {
    return s.entry != 0 ? "a sample stays that nobody has" : nullptr;
  }
};

// ---- Two places. Two threads allocate and free, and a third frees what the first has, once more.

struct PlacesModel {
  static constexpr int kThreads = 3;
  static constexpr int kTwice = 2;
  static constexpr uint8_t kEnd = 99, kNone = 9;

  bool freed_by_one_step = true;
  bool live_comes_last = true;  // when all else of a block is there
  bool forbidden_before_given = true;

  struct State {
    uint8_t bound[2], allowed[2], listed[2], making[2];
    uint8_t live;
    uint8_t queue[2], queued;  // free places, oldest first
    uint8_t mine[kThreads], saw[kThreads];
    uint8_t rounds[2];
    uint8_t at[kThreads];
  };

  State start() const {
    State s = {};
    s.queue[1] = 1;
    s.queued = 2;
    s.listed[0] = s.listed[1] = 1;
    s.mine[0] = s.mine[1] = s.mine[2] = kNone;
    s.rounds[0] = s.rounds[1] = 2;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State&, int t) const { return t == kTwice ? 2 : 1; }

  const char* step(State& s, int t, int choice) const {
    uint8_t& at = s.at[t];
    if (t == kTwice && at == 0) {
      // Whatever the first has at some time.
      if (choice == 1) at = kEnd;
      if (choice == 0 && s.mine[0] != kNone) {
        s.mine[t] = s.mine[0];
        at = 4;
      }
      return nullptr;
    }
    switch (at) {
      case 0:  // take_place
        if (s.queued == 0) {
          at = 9;
          return nullptr;
        }
        s.mine[t] = s.queue[0];
        s.queue[0] = s.queue[1];
        --s.queued;
        s.listed[s.mine[t]] = 0;
        s.making[s.mine[t]] = 1;
        ++s.live;
        at = 1;
        return nullptr;
      case 1:
        if (live_comes_last) {
          s.allowed[s.mine[t]] = 1;
        } else {
          s.bound[s.mine[t]] = 1;
        }
        at = 2;
        return nullptr;
      case 2:
        if (s.listed[s.mine[t]]) return "a place is free while a block is made in it";
        s.allowed[s.mine[t]] = s.bound[s.mine[t]] = 1;
        s.making[s.mine[t]] = 0;
        at = 3;
        return nullptr;
      case 3:  // it is used
        if (s.bound[s.mine[t]] && !s.allowed[s.mine[t]]) return "a live block cannot be accessed";
        at = 4;
        return nullptr;
      case 4:  // free_block: what it looks at
        s.saw[t] = s.bound[s.mine[t]];
        at = s.saw[t] ? 5 : 8;
        return nullptr;
      case 5:
        if (freed_by_one_step && !s.bound[s.mine[t]]) {
          at = 8;  // said to be freed twice
          return nullptr;
        }
        s.bound[s.mine[t]] = 0;
        at = 6;
        return nullptr;
      case 6:
      case 7:
        if ((at == 6) == forbidden_before_given) {
          if (s.bound[s.mine[t]]) return "a live block's pages are forbidden";
          s.allowed[s.mine[t]] = 0;
        } else if (const char* wrong = give(s, s.mine[t])) {
          return wrong;
        }
        ++at;
        return nullptr;
      case 8:
        s.mine[t] = kNone;
        s.saw[t] = 0;
        at = 9;
        return nullptr;
      default:
        at = t == kTwice || --s.rounds[t] == 0 ? kEnd : uint8_t{0};
        return nullptr;
    }
  }

  static const char* give(State& s, uint8_t place) {
    if (s.listed[place]) return "a place is in the list twice";
    if (s.live == 0) return "fewer places than none are live";
    s.listed[place] = 1;
    s.queue[s.queued++] = place;
    --s.live;
    return nullptr;
  }

  const char* broken(const State& s) const {
    for (int i : {0, 1}) {
      if (s.bound[i] && s.listed[i]) return "a live block's place is in the list";
    }
    return nullptr;
  }
  const char* broken_at_end(const State& s) const {
    return s.live != 0 || s.queued != 2 ? "a place is lost" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  SharedModel shared;
  verdict.holds("heaps that are shared, of a tag that goes", shared);
  shared = {};
  shared.make_looks_again = false;
  verdict.fails("without make_heap's second look at a shared thread", shared);
  shared = {};
  shared.look_comes_first = false;
  verdict.fails("with the heap looked up before what came back is", shared);
  shared = {};
  shared.lender_forgets_lent = false;
  verdict.fails("with a lender that counts what it lent as in its hand", shared);
  shared = {};
  shared.borrow_locks = false;
  verdict.fails("without the lock of the commons", shared);

  SampleModel sample;
  verdict.holds("samples of a block that is used again", sample);
  sample = {};
  sample.forgotten_before_freed = false;
  verdict.fails("with a block that is freed before its sample is forgotten", sample);
  sample = {};
  sample.added_by_its_owner = false;
  verdict.fails("with a sample that is noted before its block is taken", sample);

  PlacesModel places;
  verdict.holds("places of guarded blocks, and a free at the same time", places);
  places = {};
  places.freed_by_one_step = false;
  verdict.fails("with a look and a store instead of one step", places);
  places = {};
  places.live_comes_last = false;
  verdict.fails("with a block that is live before it is made", places);
  places = {};
  places.forbidden_before_given = false;
  verdict.fails("with pages that are forbidden after the place was given back", places);
  return verdict.exit_code();
}
