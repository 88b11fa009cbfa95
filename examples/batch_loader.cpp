// A loader that is held back by memory: it reads ahead as far as there is room, and then waits.
//
// What is read and not yet used is under one tag with a hard limit and the policy to wait. So the
// queue between loader and consumer needs no length: batches may be small or large, and none need
// be measured. Where there is no room, the loader's next allocation returns when there is.
//
// The rule that makes this safe: who waits holds nothing that those who make room need. The loader
// allocates under the tag with no lock held, and the consumer allocates nothing under it.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <iostream>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <tally/tally.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kLimit = 16 * kMiB;
constexpr uint32_t kMostWaitMs = 10'000;  // then the consumer is taken for dead
constexpr int kBatches = 120;
constexpr auto kWork = std::chrono::milliseconds(4);  // of the consumer, for each batch

using Batch = std::vector<std::string>;

// Unbounded. Its own nodes are not under the tag: push() allocates with the mutex held, and must
// not wait there for the consumer, who needs it.
class Queue {
 public:
  void push(Batch batch) {
    {
      std::lock_guard lock(mutex_);
      batches_.push_back(std::move(batch));
    }
    changed_.notify_one();
  }
  void end() {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_one();
  }
  // Nothing: it has ended.
  std::optional<Batch> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || !batches_.empty(); });
    if (batches_.empty()) return std::nullopt;
    Batch batch = std::move(batches_.front());
    batches_.pop_front();
    return batch;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> batches_;
  bool ended_ = false;
};

struct Sums {
  uint64_t batches = 0, records = 0, bytes = 0;
  friend bool operator==(const Sums&, const Sums&) = default;

  void add(const Batch& batch) {
    ++batches;
    records += batch.size();
    for (const std::string& record : batch) bytes += record.size();
  }
};

// Some hundred KiB to some MiB of records. Any of the allocations may wait.
Batch read_batch(tally::Tag tag, std::mt19937& random) {
  tally::TagScope scope(tag);
  Batch batch(200 + random() % 3000);
  for (std::string& record : batch) record.assign(100 + random() % 1500, 'r');
  return batch;
}

void load(tally::Tag tag, Queue& queue, Sums& sums) {
  std::mt19937 random(1);
  try {
    for (int i = 0; i < kBatches; ++i) {
      Batch batch = read_batch(tag, random);
      sums.add(batch);
      queue.push(std::move(batch));
    }
  } catch (const std::bad_alloc&) {
    std::cout << "no memory came back for " << kMostWaitMs << " ms\n";
  }
  queue.end();
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag tag = tally::Tag::create("/loader/batches");
  if (!tag.limit(TALLY_LIMIT_NONE, kLimit, TALLY_POLICY_WAIT(kMostWaitMs))) return 1;

  Queue queue;
  Sums loaded, consumed;
  std::thread loader(load, tag, std::ref(queue), std::ref(loaded));
  while (std::optional<Batch> batch = queue.pop()) {
    std::this_thread::sleep_for(kWork);
    consumed.add(*batch);
  }  // here the batch is freed, and the loader may go on
  loader.join();

  const tally_stats_t stats = tag.stats();
  std::cout << consumed.batches << " batches of " << consumed.records << " records, "
            << consumed.bytes / kMiB << " MiB, went through a limit of " << kLimit / kMiB
            << " MiB\n"
            << "peak " << stats.total.peak_footprint_bytes / kKiB << " KiB; " << stats.waited_count
            << " allocations waited, " << stats.refused_count << " were refused\n";

  bool ok = holds(consumed == loaded && loaded.batches == kBatches, "all batches arrive");
  ok &= holds(stats.waited_count != 0, "the loader is faster and waits");
  ok &= holds(stats.refused_count == 0, "nothing is refused");
  ok &= holds(stats.total.peak_footprint_bytes <= kLimit, "the peak is within the limit");
  return ok ? 0 : 1;
}
