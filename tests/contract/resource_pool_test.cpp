// ResourcePool, with connections of SQLite to a database in a file.
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tally/resource_pool.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "tally_test.h"

namespace {

using namespace std::chrono_literals;
using tally::ResourcePoolStats;
using tally::Tag;
namespace fs = std::filesystem;

uint64_t live(Tag tag) { return tag.stats().own.live_blocks; }

// A connection. Its failures are exceptions.
class Connection {
 public:
  static inline std::atomic<int> open{0};

  explicit Connection(const fs::path& file) {
    const bool ok =
        sqlite3_open_v2(file.c_str(), &db_,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        nullptr) == SQLITE_OK;
    if (!ok) {
      const std::string why = sqlite3_errmsg(db_);
      sqlite3_close(db_);
      throw std::runtime_error(why);
    }
    sqlite3_busy_timeout(db_, 10'000);
    run("CREATE TABLE IF NOT EXISTS t (x)");
    ++open;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    EXPECT_EQ(sqlite3_close(db_), SQLITE_OK);
    --open;
  }

  void run(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
      throw std::runtime_error(sqlite3_errmsg(db_));
    }
  }
  int64_t count() {
    int64_t rows = -1;
    const auto store = [](void* to, int, char** values, char**) {
      *static_cast<int64_t*>(to) = std::atoll(values[0]);
      return 0;
    };
    sqlite3_exec(db_, "SELECT count(*) FROM t", store, &rows, nullptr);
    return rows;
  }
  bool in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

  // As where the server went away: what it has open is another file from here on.
  void break_its_file(const fs::path& file) {
    for (const fs::directory_entry& fd : fs::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (fs::read_symlink(fd, gone) != file) continue;
      const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      dup2(null, std::stoi(fd.path().filename()));
      close(null);
    }
  }

 private:
  sqlite3* db_ = nullptr;
};

using Pool = tally::ResourcePool<Connection>;

class ResourcePool : public testing::Test {
 protected:
  ResourcePool() {
    sqlite3_initialize();  // what SQLite needs by itself is nobody's
    fs::create_directory(folder_);
  }
  ~ResourcePool() override {
    EXPECT_EQ(Connection::open, 0);
    EXPECT_EQ(live(tag_), 0u);
    EXPECT_EQ(tag_.stats().own.live_bytes, 0u);
    fs::remove_all(folder_);
  }

  Pool::Options options(size_t min, size_t max) const {
    return {.create = [file = file_] { return std::make_unique<Connection>(file); },
            .min = min,
            .max = max};
  }
  // Until so many threads wait.
  static void await_waiting(const Pool& pool, size_t count) {
    while (pool.stats().waiting != count) std::this_thread::sleep_for(1ms);
  }

  const fs::path folder_ = fs::temp_directory_path() / ("tally-pool-" + std::to_string(getpid()));
  const fs::path file_ = folder_ / "db";
  const Tag tag_ = Tag::create(
      (std::string("/resources/") + testing::UnitTest::GetInstance()->current_test_info()->name())
          .c_str());
};

// ---- Making, keeping, accounting

TEST_F(ResourcePool, MakesWhatIsAskedForUpToItsMaximum) {
  Pool pool(tag_, options(0, 2));
  EXPECT_EQ(pool.stats().size, 0u);
  Pool::Handle a = pool.acquire(), b = pool.acquire();
  ASSERT_TRUE(a);
  ASSERT_TRUE(b);
  EXPECT_NE(a.get(), b.get());
  (*a).run("INSERT INTO t VALUES (1)");
  EXPECT_EQ(b->count(), 1);
  const ResourcePoolStats stats = pool.stats();
  EXPECT_EQ(stats.size, 2u);
  EXPECT_EQ(stats.active, 2u);
  EXPECT_EQ(stats.idle, 0u);
  EXPECT_EQ(stats.created, 2u);
  Connection* const first = a.get();
  a.reset();
  a.reset();
  EXPECT_FALSE(a);
  EXPECT_EQ(a.get(), nullptr);
  EXPECT_EQ(pool.stats().idle, 1u);
  a = pool.acquire();
  EXPECT_EQ(a.get(), first);
  EXPECT_EQ(pool.stats().created, 2u);
}

TEST_F(ResourcePool, ItsMemoryIsTheTags) {
  {
    Pool pool(tag_, options(2, 2));
    const uint64_t made = tag_.stats().own.live_bytes;
    EXPECT_GT(made, 40'000u);  // a connection has some 30 KB or more
    Pool::Handle connection = pool.acquire();
    {
      const tally::TagScope scope(tag_);  // what is done with it is the user's otherwise
      connection->run("INSERT INTO t VALUES (randomblob(100000))");
      EXPECT_EQ(connection->count(), 1);
    }
    EXPECT_GT(tag_.stats().own.live_bytes, made);
    connection.invalidate();
    connection.reset();
    EXPECT_LT(tag_.stats().own.live_bytes, made);
    EXPECT_GT(tag_.stats().own.live_bytes, made / 3);
  }
  EXPECT_EQ(tag_.stats().own.live_bytes, 0u);
}

TEST_F(ResourcePool, KeepsItsMinimum) {
  Pool::Options some = options(2, 4);
  some.idle_limit = 500ms;
  Pool pool(tag_, some);
  EXPECT_EQ(pool.stats().idle, 2u);
  EXPECT_EQ(pool.stats().created, 2u);
  {
    const Pool::Handle a = pool.acquire(), b = pool.acquire(), c = pool.acquire(),
                       d = pool.acquire();
    EXPECT_EQ(pool.stats().size, 4u);
  }
  EXPECT_EQ(pool.stats().idle, 4u);
  std::this_thread::sleep_for(600ms);
  EXPECT_TRUE(pool.maintain());
  EXPECT_EQ(pool.stats().idle, 2u);
  EXPECT_EQ(pool.stats().discarded, 2u);
  {  // what was broken is missing until somebody asks, or maintain
    Pool::Handle a = pool.acquire(), b = pool.acquire();
    a.invalidate();
    b.invalidate();
  }
  EXPECT_EQ(pool.stats().size, 0u);
  EXPECT_TRUE(pool.maintain());
  EXPECT_EQ(pool.stats().idle, 2u);
  EXPECT_EQ(Connection::open, 2);
}

TEST_F(ResourcePool, NoneIsUsedBeyondItsLifetime) {
  Pool::Options some = options(1, 4);
  some.lifetime_limit = 500ms;
  Pool pool(tag_, some);
  {
    const Pool::Handle a = pool.acquire();
    EXPECT_EQ(pool.stats().created, 1u);
    std::this_thread::sleep_for(600ms);
  }
  EXPECT_EQ(pool.stats().discarded, 1u);  // as it came back
  EXPECT_EQ(pool.stats().size, 0u);
  EXPECT_TRUE(pool.maintain());
  std::this_thread::sleep_for(600ms);
  const Pool::Handle b = pool.acquire();  // and as it was asked for
  EXPECT_EQ(pool.stats().created, 3u);
  EXPECT_EQ(pool.stats().discarded, 2u);
}

// ---- Broken ones

TEST_F(ResourcePool, WhatIsNotValidIsReplaced) {
  int asked = 0;
  Pool::Options some = options(2, 2);
  some.validate = [&](Connection& connection) {
    ++asked;
    EXPECT_EQ(Tag::current(), tag_);
    return connection.count() >= 0;
  };
  Pool pool(tag_, some);
  Pool::Handle connection = pool.acquire();
  EXPECT_EQ(asked, 1);
  connection->run("INSERT INTO t VALUES (1)");
  connection->break_its_file(file_);  // of both: it is the same file
  EXPECT_EQ(connection->count(), -1);
  connection.reset();
  connection = pool.acquire();
  EXPECT_EQ(asked, 3) << "the other one too";
  EXPECT_EQ(connection->count(), 1);
  EXPECT_EQ(pool.stats().discarded, 2u);
  EXPECT_EQ(pool.stats().created, 3u);
  const Pool::Handle other = pool.acquire();
  EXPECT_EQ(other->count(), 1);
  EXPECT_EQ(pool.stats().discarded, 2u);
  EXPECT_EQ(pool.stats().size, 2u);
}

// With the database down, what is idle and good still serves.
TEST_F(ResourcePool, OneThatIsGoodIsPreferredToANewOne) {
  const Connection* bad = nullptr;
  Pool::Options some = options(3, 3);
  const auto connect = some.create;
  bool is_down = false;
  some.create = [&] { return is_down ? nullptr : connect(); };
  some.validate = [&](Connection& connection) { return &connection != bad; };
  Pool pool(tag_, some);
  bad = pool.acquire().get();
  is_down = true;
  const Pool::Handle first = pool.acquire();
  EXPECT_TRUE(first);
  EXPECT_NE(first.get(), bad);
  EXPECT_TRUE(pool.acquire());
  EXPECT_EQ(pool.stats().size, 2u);
  EXPECT_EQ(pool.stats().discarded, 1u);
  EXPECT_EQ(pool.stats().failed, 0u);
}

TEST_F(ResourcePool, AnExceptionOfValidateMeansNo) {
  Pool::Options some = options(0, 1);
  some.validate = [](Connection& connection) {
    connection.run("SELECT * FROM not_there");
    return true;
  };
  Pool pool(tag_, some);
  pool.acquire().reset();
  EXPECT_TRUE(pool.acquire());
  EXPECT_EQ(pool.stats().created, 2u);
  EXPECT_EQ(pool.stats().discarded, 1u);
}

TEST_F(ResourcePool, ResetMakesItAsNewOrItIsNotKept) {
  Pool::Options some = options(0, 1);
  some.reset = [&](Connection& connection) {
    EXPECT_EQ(Tag::current(), tag_);
    if (connection.in_transaction()) connection.run("ROLLBACK");
    connection.run("DROP TABLE IF EXISTS not_t");
    return connection.count() < 5;
  };
  Pool pool(tag_, some);
  pool.acquire()->run("BEGIN; INSERT INTO t VALUES (1)");
  Pool::Handle connection = pool.acquire();
  EXPECT_FALSE(connection->in_transaction());
  EXPECT_EQ(connection->count(), 0);
  EXPECT_EQ(pool.stats().created, 1u);
  for (int i = 0; i < 5; ++i) connection->run("INSERT INTO t VALUES (1)");
  connection.reset();  // false
  EXPECT_EQ(pool.stats().size, 0u);
  connection = pool.acquire();
  connection->run("DELETE FROM t; CREATE VIEW not_t AS SELECT 1");
  connection.reset();  // an exception: it is no table
  EXPECT_EQ(pool.stats().size, 0u);
  EXPECT_EQ(pool.stats().discarded, 2u);
}

// ---- Creation that fails

TEST_F(ResourcePool, WhatCreateThrowsReachesWhoAskedAndThePoolRecovers) {
  const fs::path missing = folder_ / "missing";
  Pool::Options some = options(0, 1);
  some.create = [&] { return std::make_unique<Connection>(missing / "db"); };
  Pool pool(tag_, some);
  for (int i = 0; i < 3; ++i) EXPECT_THROW((void)pool.acquire(), std::runtime_error);
  EXPECT_THROW((void)pool.acquire_for(1s), std::runtime_error);
  EXPECT_EQ(pool.stats().failed, 4u);
  EXPECT_EQ(pool.stats().size, 0u);
  EXPECT_EQ(Tag::current(), Tag());
  fs::create_directory(missing);
  EXPECT_TRUE(pool.acquire());
  EXPECT_EQ(pool.stats().size, 1u);

  some.min = 1;
  fs::remove_all(missing);
  EXPECT_THROW(Pool(tag_, some), std::runtime_error);
}

TEST_F(ResourcePool, NullOfCreateIsAnEmptyHandleWithItsErrno) {
  bool fails = true;
  Pool::Options some = options(2, 2);
  some.create = [&]() -> std::unique_ptr<Connection> {
    if (!fails) return std::make_unique<Connection>(file_);
    errno = ECONNREFUSED;
    return nullptr;
  };
  Pool pool(tag_, some);
  EXPECT_EQ(pool.stats().failed, 1u);
  EXPECT_FALSE(pool.maintain());
  errno = 0;
  EXPECT_FALSE(pool.acquire());
  EXPECT_EQ(errno, ECONNREFUSED);
  EXPECT_EQ(pool.stats().failed, 3u);
  EXPECT_EQ(pool.stats().size, 0u);
  fails = false;
  EXPECT_TRUE(pool.maintain());
  EXPECT_EQ(pool.stats().idle, 2u);
}

TEST_F(ResourcePool, APlaceThatIsGivenUpGoesToWhoWaits) {
  std::atomic<int> to_fail{0};
  Pool::Options some = options(0, 1);
  some.create = [&] {
    return std::make_unique<Connection>(to_fail-- > 0 ? folder_ / "missing" / "db" : file_);
  };
  Pool pool(tag_, some);
  Pool::Handle held = pool.acquire();
  std::atomic<int> threw{0}, got{0};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      try {
        const Pool::Handle handle = pool.acquire_for(10s);
        got += static_cast<bool>(handle);
      } catch (const std::runtime_error&) {
        ++threw;
      }
    });
    await_waiting(pool, i + 1);
  }
  to_fail = 2;
  held.invalidate();
  held.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(threw, 2);
  EXPECT_EQ(got, 1);
  EXPECT_EQ(pool.stats().failed, 2u);
  EXPECT_EQ(pool.stats().size, 1u);
}

// ---- Waiting

TEST_F(ResourcePool, TimesOut) {
  Pool pool(tag_, options(0, 1));
  const Pool::Handle held = pool.acquire();
  const auto start = Pool::Clock::now();
  errno = 0;
  EXPECT_FALSE(pool.acquire_for(50ms));
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_GE(Pool::Clock::now() - start, 50ms);
  for (const auto none : {Pool::Clock::duration(0), Pool::Clock::duration(-5s)}) {
    errno = 0;
    EXPECT_FALSE(pool.acquire_for(none));
    EXPECT_EQ(errno, ETIMEDOUT);
  }
  EXPECT_EQ(pool.stats().timeouts, 3u);
  EXPECT_EQ(pool.stats().waits, 1u);  // the others did not
  EXPECT_EQ(pool.stats().waiting, 0u);
}

TEST_F(ResourcePool, AnEndlessTimeIsOne) {
  Pool pool(tag_, options(0, 1));
  Pool::Handle held = pool.acquire();
  std::thread waits([&] { EXPECT_TRUE(pool.acquire_for(Pool::Clock::duration::max())); });
  await_waiting(pool, 1);
  held.reset();
  waits.join();
  EXPECT_EQ(pool.stats().created, 1u);
}

TEST_F(ResourcePool, ServesInTheOrderOfComing) {
  Pool pool(tag_, options(0, 1));
  Pool::Handle held = pool.acquire();
  std::vector<int> order;  // changed by who has the connection
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      const Pool::Handle handle = i == 2 ? pool.acquire_for(1ms) : pool.acquire();
      if (handle) order.push_back(i);
    });
    if (i == 2) {
      threads.back().join();  // has given up
      threads.pop_back();
    }
    await_waiting(pool, threads.size());
  }
  held.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 3, 4, 5}));
}

TEST_F(ResourcePool, EightThreadsShareTwoConnections) {
  Pool pool(tag_, options(1, 2));
  std::atomic<int> active{0}, most{0}, inserted{0}, timeouts{0};
  std::vector<std::thread> threads;
  for (int n = 0; n < 8; ++n) {
    threads.emplace_back([&] {
      for (int i = 0; i < 12; ++i) {
        const Pool::Handle connection = pool.acquire_for(i % 4 == 0 ? 1ms : 20s);
        if (!connection) {
          EXPECT_EQ(errno, ETIMEDOUT);
          EXPECT_EQ(i % 4, 0);
          ++timeouts;
          continue;
        }
        const int now = ++active;
        int before = most;
        while (before < now && !most.compare_exchange_weak(before, now)) {
        }
        connection->run("INSERT INTO t VALUES (1)");
        ++inserted;
        std::this_thread::sleep_for(3ms);
        --active;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const ResourcePoolStats stats = pool.stats();
  EXPECT_LE(most, 2);
  EXPECT_GT(timeouts, 0);
  EXPECT_EQ(stats.timeouts, static_cast<uint64_t>(timeouts));
  EXPECT_GT(stats.waits, 8u);
  EXPECT_EQ(inserted + timeouts, 8 * 12);
  EXPECT_EQ(stats.created, 2u);
  EXPECT_EQ(stats.idle, 2u);
  EXPECT_EQ(stats.waiting, 0u);
  EXPECT_EQ(pool.acquire()->count(), inserted);
}

TEST_F(ResourcePool, SlowCreationHoldsUpNobodyElse) {
  std::mutex slow;
  std::atomic<bool> is_slow{false}, entered{false};
  Pool::Options some = options(0, 2);
  some.create = [&] {
    if (is_slow) {
      entered = true;
      const std::lock_guard wait(slow);
    }
    return std::make_unique<Connection>(file_);
  };
  Pool pool(tag_, some);
  Pool::Handle first = pool.acquire();
  is_slow = true;
  std::unique_lock block(slow);
  std::thread second([&] { EXPECT_TRUE(pool.acquire()); });
  while (!entered) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(pool.stats().size, 2u);
  EXPECT_EQ(pool.stats().active, 1u);
  first.reset();
  EXPECT_TRUE(pool.acquire_for(0s));
  block.unlock();
  second.join();
}

// ---- The end

TEST_F(ResourcePool, CloseWakesWhoWaitsAndDestroysWhatIsIdle) {
  Pool pool(tag_, options(0, 2));
  Pool::Handle held = pool.acquire(), other = pool.acquire();
  std::thread waits([&] {
    EXPECT_FALSE(pool.acquire());
    EXPECT_EQ(errno, ECANCELED);
  });
  await_waiting(pool, 1);
  pool.close();
  waits.join();
  errno = 0;
  EXPECT_FALSE(pool.acquire_for(1s));
  EXPECT_EQ(errno, ECANCELED);
  EXPECT_TRUE(pool.maintain());
  EXPECT_EQ(held->count(), 0);  // still good
  held.reset();
  EXPECT_EQ(Connection::open, 1);
  EXPECT_EQ(pool.stats().size, 1u);
  other.reset();
  EXPECT_EQ(pool.stats().discarded, 2u);
  pool.close();
}

TEST_F(ResourcePool, HandlesMayOutliveIt) {
  Pool::Handle held;
  {
    Pool pool(tag_, options(2, 2));
    held = pool.acquire();
    EXPECT_EQ(Connection::open, 2);
  }
  EXPECT_EQ(Connection::open, 1);
  EXPECT_EQ(held->count(), 0);
  Pool::Handle moved = std::move(held);
  EXPECT_FALSE(held);
  EXPECT_GT(live(tag_), 0u);
}

// ---- Bad options

TEST_F(ResourcePool, BadOptionsAreInvalid) {
  EXPECT_THROW(Pool(tag_, Pool::Options{}), std::invalid_argument);
  EXPECT_THROW(Pool(tag_, options(0, 0)), std::invalid_argument);
  EXPECT_THROW(Pool(tag_, options(3, 2)), std::invalid_argument);
  Pool::Options brief = options(1, 2);
  for (const auto lifetime : {0s, -1s}) {
    brief.lifetime_limit = lifetime;
    EXPECT_THROW(Pool(tag_, brief), std::invalid_argument);
  }
  errno = 0;
  EXPECT_THROW(Pool(Tag(TALLY_TAG_NONE), options(0, 1)), std::bad_alloc);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ResourcePool, UnderARetiredTagNothingIsMade) {
  const Tag tag = Tag::create("/resources/retired");
  Pool pool(tag, options(1, 2));
  ASSERT_TRUE(tag.retire());
  Pool::Handle first = pool.acquire();  // is there already
  EXPECT_TRUE(first);
  errno = 0;
  EXPECT_FALSE(pool.acquire());
  EXPECT_EQ(errno, EINVAL);
  first.reset();
  EXPECT_EQ(pool.stats().idle, 1u);
}

}  // namespace
