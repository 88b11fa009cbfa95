// A server whose memory is told apart by what it is for: sessions, a cache, and the requests that
// are being worked on. Each part opens a scope where it allocates; nothing else changes, and any
// code that it calls, std::string and std::map included, is counted with it.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <tally/tally.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int kThreads = 4;
constexpr int kRequests = 20'000;  // of each thread

struct Tags {
  tally::Tag sessions = tally::Tag::create("/server/sessions");
  tally::Tag cache = tally::Tag::create("/server/cache");
  tally::Tag requests = tally::Tag::create("/server/requests");
};

// A table of texts under one tag, for all threads.
class Table {
 public:
  explicit Table(tally::Tag tag) : tag_(tag) {}

  // Calls make() for a text that is not there yet.
  template <class Make>
  std::string get(uint64_t key, Make make) {
    const std::lock_guard lock(mutex_);
    auto found = texts_.find(key);
    if (found == texts_.end()) {
      const tally::TagScope scope(tag_);  // until the brace: the copy is the caller's
      found = texts_.emplace(key, make()).first;
      bytes_ += found->second.size();
    }
    return found->second;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    texts_.clear();
  }
  size_t size() const { return texts_.size(); }
  uint64_t bytes() const { return bytes_; }

 private:
  const tally::Tag tag_;
  std::mutex mutex_;
  std::map<uint64_t, std::string> texts_;
  uint64_t bytes_ = 0;
};

class Server {
 public:
  explicit Server(const Tags& tags) : tags_(tags) {}

  // Returns the length of the answer.
  size_t serve(uint64_t user, uint64_t page) {
    const tally::TagScope scope(tags_.requests);
    const std::string session =
        sessions_.get(user, [&] { return "session of user " + std::to_string(user); });
    const std::string body = cache_.get(page, [&] { return std::string(500 + page % 3000, 'p'); });
    const std::string answer = "<h1>" + session + "</h1>" + body;
    return answer.size();
  }

  Table& sessions() { return sessions_; }
  Table& cache() { return cache_; }

 private:
  const Tags tags_;
  Table sessions_{tags_.sessions};
  Table cache_{tags_.cache};
};

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const Tags tags;
  Server server(tags);
  std::atomic<uint64_t> answered{0};
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      std::mt19937 random(n);
      for (int i = 0; i < kRequests; ++i) answered += server.serve(random() % 5000, random() % 800);
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::cout.flush();
  tally_snapshot_text_fd(1);  // what TALLY_REPORT=1 prints at the end, now
  const tally_counts sessions = tags.sessions.stats().own, cache = tags.cache.stats().own;
  const tally_counts requests = tags.requests.stats().own;

  // A node for each text, and the texts, all of them longer than fits into a std::string itself.
  bool ok = holds(sessions.live_blocks == 2 * server.sessions().size(), "each session is counted");
  ok &= holds(cache.live_blocks == 2 * server.cache().size(), "each page is counted");
  ok &= holds(cache.live_bytes > server.cache().bytes(), "and each of its bytes");
  ok &= holds(requests.alloc_count > uint64_t{2} * kThreads * kRequests, "requests need memory");
  ok &= holds(requests.live_blocks == 0, "and hold none when they are answered");

  server.cache().clear();
  ok &= holds(tags.cache.stats().own.live_blocks == 0, "a cache that is emptied holds nothing");
  ok &= holds(tags.sessions.stats().own.live_blocks == sessions.live_blocks,
              "which is nothing to the sessions");
  const tally_counts all = tally::Tag::find("/server").stats().total;
  ok &= holds(all.live_blocks == sessions.live_blocks, "the tag above has the sum");
  return ok ? 0 : 1;
}
