#include "os/lock.h"

#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

constexpr auto never = [] { return false; };

TEST(Lock, KnowsItsHolder) {
  Lock lock;
  EXPECT_FALSE(lock.held_by_me());
  lock.acquire();
  EXPECT_TRUE(lock.held_by_me());
  on_thread([&] { EXPECT_FALSE(lock.held_by_me()); });
  lock.release();
  EXPECT_FALSE(lock.held_by_me());
}

TEST(Lock, TryDoesNotWait) {
  Lock lock;
  ASSERT_TRUE(lock.try_acquire());
  EXPECT_TRUE(lock.held_by_me());
  EXPECT_FALSE(lock.try_acquire()) << "it is not recursive";
  on_thread([&] { EXPECT_FALSE(lock.try_acquire()); });
  lock.release();
  on_thread([&] {
    EXPECT_TRUE(lock.try_acquire());
    lock.release();
  });
}

TEST(Lock, AroundAForkItIsHeldOnce) {
  Lock lock;
  lock.acquire_for_fork(never);
  EXPECT_TRUE(lock.held_by_me());
  lock.release_after_fork();
  EXPECT_FALSE(lock.held_by_me());
  lock.acquire_for_fork(never);
  lock.reset_after_fork();
  EXPECT_FALSE(lock.held_by_me());
}

// The fork was made in a signal handler that interrupted the holder.
TEST(Lock, AroundAForkItStaysWithItsHolder) {
  Lock lock;
  lock.acquire();
  lock.acquire_for_fork(never);
  lock.release_after_fork();
  EXPECT_TRUE(lock.held_by_me());
  lock.acquire_for_fork(never);
  lock.reset_after_fork();
  EXPECT_TRUE(lock.held_by_me());
  lock.release();
  EXPECT_TRUE(lock.try_acquire());
  lock.release();
}

// Who forks in the midst of a step, with another lock in hand, waits for none for ever; the child
// finds it free, as its holder is not there.
TEST(Lock, AroundAForkOneMayGiveUp) {
  Lock lock;
  on_thread([&] { lock.acquire(); });
  int asked = 0;
  const auto soon = [&] { return ++asked == 3; };
  EXPECT_FALSE(lock.acquire_for_fork(soon));
  EXPECT_EQ(asked, 3);
  EXPECT_FALSE(lock.held_by_me());
  lock.release_after_fork();
  EXPECT_FALSE(lock.try_acquire()) << "it is the other's still";
  EXPECT_FALSE(lock.acquire_for_fork([] { return true; }));
  lock.reset_after_fork();
  EXPECT_TRUE(lock.acquire_for_fork([] { return true; })) << "nobody else has it";
  EXPECT_TRUE(lock.held_by_me());
  lock.release_after_fork();
  EXPECT_FALSE(lock.held_by_me());
}

// It was asleep for a while, and takes it as others do.
TEST(Lock, AroundAForkOneMayWait) {
  Lock lock;
  lock.acquire();
  std::thread other([&] {
    EXPECT_TRUE(lock.acquire_for_fork(never));
    lock.release_after_fork();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  lock.release();
  other.join();
  EXPECT_TRUE(lock.try_acquire());
  lock.release();
}

// As while a fork is prepared.
TEST(Lock, WhoHoldsAllNeedsToWaitForNone) {
  Lock lock;
  lock.acquire();
  Lock::hold_all(true);
  lock.acquire();
  EXPECT_TRUE(lock.held_by_me());
  lock.release();
  EXPECT_TRUE(lock.held_by_me()) << "it is released with all the others";
  Lock::hold_all(false);
  on_thread([&] { EXPECT_FALSE(lock.try_acquire()); });
  lock.release();
  on_thread([&] {
    EXPECT_TRUE(lock.try_acquire());
    lock.release();
  });
}

TEST(Lock, OneAtATime) {
  constexpr int kThreads = 4, kTurns = 20000;
  Lock lock;
  int inside = 0;  // written under the lock only
  uint64_t turns = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTurns; ++i) {
        LockGuard guard(lock);
        ASSERT_EQ(++inside, 1);
        ASSERT_TRUE(lock.held_by_me());
        ++turns;
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(turns, uint64_t{kThreads} * kTurns);
}

// The holder keeps it long enough for the others to sleep in the kernel.
TEST(Lock, SleepersAreWoken) {
  constexpr int kThreads = 4, kTurns = 50;
  Lock lock;
  uint64_t turns = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTurns; ++i) {
        LockGuard guard(lock);
        ++turns;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(turns, uint64_t{kThreads} * kTurns);
}

}  // namespace
}  // namespace tally::unit
