// A service with eight workers and three connections to its database (SQLite): connections are kept
// and handed out by a tally::ResourcePool, checked before and cleaned after each use, and their
// memory, with SQLite's own, is under the tag /database.
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <tally/resource_pool.hpp>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr int kWorkers = 8;
constexpr int kJobs = 40;  // of each worker
constexpr size_t kMostConnections = 3;

class Connection {
 public:
  static inline std::atomic<int> count{0}, most{0};

  explicit Connection(const std::string& path) {
    if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) {
      const std::string why = sqlite3_errmsg(db_);
      sqlite3_close(db_);
      throw std::runtime_error(path + ": " + why);
    }
    sqlite3_busy_timeout(db_, 10'000);
    run("PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS jobs (worker INTEGER)");
    most = std::max(most.load(), ++count);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    sqlite3_close(db_);
    --count;
  }

  bool run(const std::string& sql) {
    return sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
  }
  int64_t rows() {
    int64_t rows = -1;
    const auto first_value = [](void* to, int, char** values, char**) {
      *static_cast<int64_t*>(to) = std::stoll(values[0]);
      return 0;
    };
    sqlite3_exec(db_, "SELECT count(*) FROM jobs", first_value, &rows, nullptr);
    return rows;
  }
  bool in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

 private:
  sqlite3* db_ = nullptr;
};

using Connections = tally::ResourcePool<Connection>;

struct Counts {
  std::atomic<int> done{0}, given_up{0};
};

void work(Connections& connections, int worker, Counts& counts) {
  for (int job = 0; job < kJobs; ++job) {
    Connections::Handle connection = connections.acquire_for(30s);
    if (!connection) {  // errno is ETIMEDOUT: a server would say that it is busy
      ++counts.given_up;
      continue;
    }
    connection->run("BEGIN IMMEDIATE");
    connection->run("INSERT INTO jobs VALUES (" + std::to_string(worker) + ")");
    if (job % 10 == 9) continue;  // forgets to commit: reset sees to that
    if (connection->run("COMMIT")) {
      ++counts.done;
    } else {
      connection.invalidate();  // not to be used again
    }
  }
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const std::string path =
      std::filesystem::temp_directory_path() / ("tally-jobs-" + std::to_string(getpid()) + ".db");
  const tally::Tag tag = tally::Tag::create("/database");
  sqlite3_initialize();  // what SQLite keeps for all connections is not theirs
  Counts counts;
  tally::ResourcePoolStats stats;
  uint64_t held;
  int64_t rows;
  bool shut;
  {
    Connections connections(
        tag, {.create = [&] { return std::make_unique<Connection>(path); },
              .validate = [](Connection& connection) { return connection.rows() >= 0; },
              .reset = [](Connection& c) { return !c.in_transaction() || c.run("ROLLBACK"); },
              .min = 1,
              .max = kMostConnections,
              .idle_limit = 5min,
              .lifetime_limit = 1h});
    std::vector<std::thread> workers;
    for (int n = 0; n < kWorkers; ++n) {
      workers.emplace_back([&, n] { work(connections, n, counts); });
    }
    for (std::thread& worker : workers) worker.join();
    rows = connections.acquire()->rows();
    stats = connections.stats();
    held = tag.stats().own.live_bytes;
    connections.close();
    shut = !connections.acquire() && errno == ECANCELED;
  }
  std::filesystem::remove(path);

  std::cout << counts.done << " jobs done by " << kWorkers << " workers on " << stats.created
            << " connections; " << stats.waits << " waits, " << stats.timeouts << " timeouts\n"
            << "the connections hold " << held / 1024 << " KiB, and after their end "
            << tag.stats().own.live_bytes << " bytes\n";

  bool ok = holds(counts.done == kWorkers * (kJobs - kJobs / 10) && counts.given_up == 0,
                  "every job that commits is done");
  ok &= holds(rows == counts.done, "what was not committed is not in the database");
  ok &= holds(stats.created <= kMostConnections && Connection::most <= int{kMostConnections},
              "there are never more connections than they may be");
  ok &= holds(stats.created == stats.size && stats.discarded == 0, "connections are used again");
  ok &= holds(held > 20'000 * stats.size, "their memory is under their tag");
  ok &= holds(tag.stats().own.live_bytes == 0 && Connection::count == 0, "all of it goes back");
  ok &= holds(shut, "a pool that is closed hands out no more");
  return ok ? 0 : 1;
}
