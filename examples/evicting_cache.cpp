// A cache that is bounded by the memory it holds, not by a number of entries that somebody guessed.
//
// All that it holds is under one tag with two limits. Above the soft one it is told, and forgets
// what was used least lately; the hard one it never exceeds, whatever its threads do.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <iterator>
#include <list>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <tally/tally.hpp>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kSoftLimit = 24 * kMiB;
constexpr uint64_t kHardLimit = 32 * kMiB;
constexpr int kThreads = 4;
constexpr int kRequests = 100'000;  // of each thread
constexpr uint64_t kKeys = 200'000;

// A mutex that can be tried by the thread that has it; with std::mutex that is undefined.
class OwnedMutex {
 public:
  void lock() {
    mutex_.lock();
    owner_ = std::this_thread::get_id();
  }
  bool try_lock() {
    if (owner_ == std::this_thread::get_id() || !mutex_.try_lock()) return false;
    owner_ = std::this_thread::get_id();
    return true;
  }
  void unlock() {
    owner_ = std::thread::id();
    mutex_.unlock();
  }

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};  // only its own thread finds its id here
};

class Cache {
 public:
  explicit Cache(tally::Tag tag) : tag_(tag) {}

  std::optional<std::string> get(uint64_t key) {
    std::lock_guard lock(mutex_);
    auto found = index_.find(key);
    if (found == index_.end()) return std::nullopt;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;  // the copy is the caller's: no scope of ours is open
  }

  // False: there was no room for it, and the cache is as before, less what it evicted.
  bool put(uint64_t key, std::string_view value) {
    for (int tries = 0; tries < 3; ++tries) {
      try {
        tally::TagScope scope(tag_);
        // Copied here: a string that is moved in would stay under the tag that it was made under.
        Entries fresh;
        fresh.emplace_back(key, std::string(value));
        std::lock_guard lock(mutex_);
        insert(std::move(fresh));
        evict_to(budget_);
        return true;
      } catch (const std::bad_alloc&) {
        // on_pressure was called and could not evict at once, or it was not enough.
        std::lock_guard lock(mutex_);
        evict_to(std::min<uint64_t>(budget_, bytes_ / 16 * 15));
      }
    }
    return false;
  }

  uint64_t evictions() const { return evictions_; }

 private:
  struct Entry {
    Entry(uint64_t k, std::string v) : key(k), value(std::move(v)) {}
    uint64_t key;
    std::string value;
  };
  using Entries = std::list<Entry>;  // most lately used first
  static constexpr uint64_t kNoBudget = UINT64_MAX;

  // Runs on the thread that allocated or freed, in the middle of what it does: that may be put(),
  // which does both with the mutex held, and to wait for the mutex would then be for ever. And who
  // else has it may be waiting for memory. So this waits for nothing: it says how much may be kept,
  // and evicts what is more if nobody has the mutex. Who has it does so, or the next put.
  void on_pressure(tally::Pressure level) {
    switch (level) {
      case tally::Pressure::kNormal:
        budget_ = kNoBudget;
        break;
      case tally::Pressure::kSoft:
        budget_ = bytes_ / 16 * 15;
        break;
      case tally::Pressure::kHard:
        budget_ = bytes_ / 4 * 3;
        break;
    }
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) evict_to(budget_);
  }

  // The mutex is held in what follows.
  void evict_to(uint64_t budget) {
    for (; bytes_ > budget; ++evictions_) erase(std::prev(entries_.end()));
  }

  void erase(Entries::iterator entry) {
    bytes_ -= entry->value.size();
    index_.erase(entry->key);
    entries_.erase(entry);
  }

  // Either all of it happens, or std::bad_alloc and nothing.
  void insert(Entries fresh) {
    auto [place, is_new] = index_.try_emplace(fresh.front().key);
    if (!is_new) {
      bytes_ -= place->second->value.size();
      entries_.erase(place->second);
    }
    bytes_ += fresh.front().value.size();
    place->second = fresh.begin();
    entries_.splice(entries_.begin(), fresh);
  }

  const tally::Tag tag_;
  OwnedMutex mutex_;
  Entries entries_;
  std::unordered_map<uint64_t, Entries::iterator> index_;
  std::atomic<uint64_t> bytes_{0};           // of all values; changed with the mutex
  std::atomic<uint64_t> budget_{kNoBudget};  // how many they may be
  uint64_t evictions_ = 0;
  // The last member, so that it is the first to go.
  tally::PressureListener listener_{
      tag_,
      [](tally_tag, int level, void* cache) {
        static_cast<Cache*>(cache)->on_pressure(static_cast<tally::Pressure>(level));
      },
      this};
};

// What is cached, as its key tells: 16 bytes to 4 KiB.
size_t length_of(uint64_t key) { return (16 + key * 2654435761 % 16) << (key % 8); }
char letter_of(uint64_t key) { return static_cast<char>('a' + key % 26); }

struct Counts {
  std::atomic<uint64_t> hits{0}, misses{0}, not_cached{0}, wrong{0};
};

void use(Cache& cache, unsigned seed, Counts& counts) {
  std::mt19937 random(seed);
  for (int i = 0; i < kRequests; ++i) {
    // Few keys are asked for often, and most seldom.
    uint64_t key = random() % (1 + random() % kKeys);
    if (std::optional<std::string> value = cache.get(key)) {
      ++counts.hits;
      bool is_right = value->size() == length_of(key) && value->back() == letter_of(key);
      if (!is_right) ++counts.wrong;
    } else {
      ++counts.misses;
      if (!cache.put(key, std::string(length_of(key), letter_of(key)))) ++counts.not_cached;
    }
  }
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag tag = tally::Tag::create("/cache");
  if (!tag || !tag.limit(kSoftLimit, kHardLimit)) return 1;
  Counts counts;
  uint64_t evictions;
  tally_stats_t stats;
  {
    Cache cache(tag);
    std::vector<std::thread> threads;
    for (unsigned n = 1; n <= kThreads; ++n) {
      threads.emplace_back(use, std::ref(cache), n, std::ref(counts));
    }
    for (std::thread& thread : threads) thread.join();
    evictions = cache.evictions();
    stats = tag.stats();
  }

  std::cout << kThreads << " threads: " << counts.hits << " hits, " << counts.misses << " misses, "
            << evictions << " evictions\n"
            << "peak " << stats.total.peak_footprint_bytes / kKiB << " KiB of a limit of "
            << kHardLimit / kKiB << " KiB; at the end " << stats.total.footprint_bytes / kKiB
            << " KiB hold " << stats.total.live_bytes / kKiB << " KiB of blocks\n"
            << "rose above the soft limit " << stats.pressure_count << " times, was refused "
            << stats.refused_count << " times; not cached for it: " << counts.not_cached << '\n';

  bool ok = holds(stats.total.peak_footprint_bytes <= kHardLimit, "the peak is within the limit");
  ok &= holds(counts.wrong == 0, "what is found is what was put");
  ok &= holds(evictions != 0 && counts.hits != 0, "it evicts, and yet finds things");
  ok &= holds(stats.total.live_bytes > kSoftLimit / 4, "it keeps what there is room for");
  return ok ? 0 : 1;
}
