// Who may free to a slab without a lock: heap/thread.cpp's give_thread and take_thread, slab.cpp's
// steal and purge.cpp's purge of orphans, around one slab of one thread's heaps X.
//
// Four threads: one that frees a block and ends, a new one that may continue with X and frees a
// block, one that may steal the slab from the orphan and frees a block, and one that purges.
// Writing to the slab's free list is two steps, so that two who do it at once are seen.
#include "checker.h"

namespace tally::model {
namespace {

struct ThreadModel {
  static constexpr int kThreads = 4;
  static constexpr int kEnding = 0, kNew = 1, kThief = 2, kPurger = 3;

  bool steal_looks_again = true;          // at the orphan's flag, with its lock
  bool steal_locks = true;                // X before it takes the slab
  bool take_thread_locks = true;          // X before it clears the flag
  bool purge_looks_at_orphan = true;      // before it flushes
  bool give_thread_flushes_first = true;  // while X is still its own

  struct State {
    uint8_t threads_lock, x_lock;  // 0, or 1 + who holds it
    uint8_t orphan, listed;
    uint8_t owner;  // of the slab: kX or kY
    uint8_t at[4];
    uint8_t mine[4];     // what tls.thread is: kX, kY or nobody
    uint8_t writing[4];  // inside the free list
    uint8_t frees[4];    // left
  };
  static constexpr uint8_t kNobody = 0, kX = 1, kY = 2;

  enum Place : uint8_t {
    kStart,
    kLocalFree,
    kLocalWrite,
    kLocalWritten,
    // give_thread
    kGiveLock,
    kGiveFlush,
    kGiveFlushed,
    kGiveUnlock,
    kGiveThreads,
    kGiveX,
    kGiveFlag,
    kGiveOpenX,
    kGiveOpen,
    // take_thread
    kTakeThreads,
    kTakeList,
    kTakeX,
    kTakeFlag,
    kTakeOpenX,
    kTakeOpen,
    // steal
    kStealLook,
    kStealTry,
    kStealRecheck,
    kStealTake,
    kStealOpen,
    // purge_all
    kPurgeLock,
    kPurgeLook,
    kPurgeWrite,
    kPurgeWritten,
    kPurgeOpen,
    kEnd
  };

  State start() const {
    State s = {};
    s.owner = kX;
    s.mine[kEnding] = kX;
    s.mine[kThief] = kY;
    s.frees[kEnding] = 1;
    s.frees[kNew] = s.frees[kThief] = 2;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }

  int choices(const State& s, int t) const {
    switch (s.at[t]) {
      case kGiveThreads:
      case kTakeThreads:
        return s.threads_lock == 0 ? 1 : 0;
      case kGiveLock:
      case kGiveX:
      case kPurgeLock:
        return s.x_lock == 0 ? 1 : 0;
      case kTakeX:
        return s.x_lock == 0 || !take_thread_locks ? 1 : 0;
      default:
        return 1;
    }
  }

  const char* begin_write(State& s, int t, Place next) const {
    s.writing[t] = 1;
    s.at[t] = next;
    return nullptr;
  }

  const char* step(State& s, int t, int /*choice*/) const {
    auto me = static_cast<uint8_t>(1 + t);
    auto go = [&](Place next) { s.at[t] = next; };
    switch (s.at[t]) {
      case kStart:
        go(t == kEnding  ? kLocalFree
           : t == kNew   ? kTakeThreads
           : t == kThief ? kStealLook
                         : kPurgeLock);
        break;

      // release_block: the owner is looked at, then written to without a lock.
      case kLocalFree:
        if (s.frees[t] == 0) {
          go(t == kEnding ? (give_thread_flushes_first ? kGiveLock : kGiveThreads) : kEnd);
        } else {
          --s.frees[t];
          if (s.owner == s.mine[t])
            go(kLocalWrite);  // otherwise to the remote list, which needs no owner
        }
        break;
      case kLocalWrite:
        return begin_write(s, t, kLocalWritten);
      case kLocalWritten:
        s.writing[t] = 0;
        go(kLocalFree);
        break;

      case kGiveLock:
        s.x_lock = me;
        go(kGiveFlush);
        break;
      case kGiveFlush:
        if (s.owner != kX) {
          go(kGiveUnlock);
          break;
        }
        return begin_write(s, t, kGiveFlushed);
      case kGiveFlushed:
        s.writing[t] = 0;
        go(kGiveUnlock);
        break;
      case kGiveUnlock:
        if (s.x_lock == me) s.x_lock = 0;
        go(give_thread_flushes_first ? kGiveThreads : kEnd);
        break;
      case kGiveThreads:
        s.threads_lock = me;
        go(kGiveX);
        break;
      case kGiveX:
        s.x_lock = me;
        go(kGiveFlag);
        break;
      case kGiveFlag:
        s.mine[t] = kNobody;
        s.orphan = s.listed = 1;
        go(kGiveOpenX);
        break;
      case kGiveOpenX:
        s.x_lock = 0;
        go(kGiveOpen);
        break;
      case kGiveOpen:
        s.threads_lock = 0;
        // Left out: it flushes when X may be another's already, and without the lock.
        go(give_thread_flushes_first ? kEnd : kGiveFlush);
        break;

      case kTakeThreads:
        s.threads_lock = me;
        go(kTakeList);
        break;
      case kTakeList:
        if (s.listed) {
          s.listed = 0;
          go(kTakeX);
        } else {
          go(kTakeOpen);  // a new thread's heaps: none of this slab's business
        }
        break;
      case kTakeX:
        if (take_thread_locks) s.x_lock = me;
        go(kTakeFlag);
        break;
      case kTakeFlag:
        s.orphan = 0;
        s.mine[t] = kX;
        go(kTakeOpenX);
        break;
      case kTakeOpenX:
        if (take_thread_locks) s.x_lock = 0;
        go(kTakeOpen);
        break;
      case kTakeOpen:
        s.threads_lock = 0;
        go(kLocalFree);
        break;

      case kStealLook:
        go(s.orphan ? kStealTry : kLocalFree);
        break;
      case kStealTry:
        if (!steal_locks) {
          go(kStealRecheck);
        } else if (s.x_lock != 0) {
          go(kLocalFree);  // only tried
        } else {
          s.x_lock = me;
          go(kStealRecheck);
        }
        break;
      case kStealRecheck:
        go(s.orphan || !steal_looks_again ? kStealTake : kStealOpen);
        break;
      case kStealTake:
        s.owner = kY;
        go(kStealOpen);
        break;
      case kStealOpen:
        if (steal_locks) s.x_lock = 0;
        go(kLocalFree);
        break;

      case kPurgeLock:
        s.x_lock = me;
        go(kPurgeLook);
        break;
      case kPurgeLook:
        go((s.orphan || !purge_looks_at_orphan) && s.owner == kX ? kPurgeWrite : kPurgeOpen);
        break;
      case kPurgeWrite:
        return begin_write(s, t, kPurgeWritten);
      case kPurgeWritten:
        s.writing[t] = 0;
        go(kPurgeOpen);
        break;
      case kPurgeOpen:
        s.x_lock = 0;
        go(kEnd);
        break;
      default:
        return "the model is wrong";
    }
    return nullptr;
  }

  const char* broken(const State& s) const {
    int writers = 0;
    for (uint8_t writing : s.writing) writers += writing;
    if (writers > 1) return "two write to one slab's free list at once";
    int owners = 0;
    for (uint8_t mine : s.mine) owners += mine == kX ? 1 : 0;
    if (owners > 1) return "two threads have the same heaps";
    if (s.orphan && owners != 0) return "an orphan has a thread";
    return nullptr;
  }
  const char* broken_at_end(const State& s) const {
    return s.orphan != s.listed ? "an orphan cannot be found" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  ThreadModel model;
  verdict.holds("orphans, adoption, stealing, purging", model);
  model = {};
  model.steal_looks_again = false;
  verdict.fails("without steal's second look at the flag", model);
  model = {};
  model.steal_locks = false;
  verdict.fails("without the orphan's lock while stealing", model);
  model = {};
  model.take_thread_locks = false;
  verdict.fails("without the orphan's lock while adopting", model);
  model = {};
  model.purge_looks_at_orphan = false;
  verdict.fails("with a purge that flushes whoever's heaps", model);
  model = {};
  model.give_thread_flushes_first = false;
  verdict.fails("with a flush after the heaps were given up", model);
  return verdict.exit_code();
}
