// A pool of things that are costly to make: connections, parsers. Header-only over <tally/tally.h>.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <tally/memory.hpp>
#include <utility>

namespace tally {

template <class T>
struct ResourcePoolOptions {
  using Duration = std::chrono::steady_clock::duration;

  // Makes one. Null is a failure, and errno may say which; an exception is one too, and reaches who
  // asked. Must be there.
  std::function<std::unique_ptr<T>()> create = {};
  // Asked before each hand-out of one that was there before: is it good still? False, or an
  // exception: it is destroyed, and the next one asked, or another made if none is left.
  std::function<bool(T&)> validate = {};
  // Called when one comes back, to make it as new. False, or an exception: it is destroyed.
  std::function<bool(T&)> reset = {};

  size_t min = 0;                             // made at once, and kept from the idle limit
  size_t max = 8;                             // at one time, those that are out included
  Duration idle_limit = Duration::max();      // more than min: that long unused at most
  Duration lifetime_limit = Duration::max();  // none is handed out, or kept, when it is older; > 0
};

struct ResourcePoolStats {
  size_t size;         // idle + active, and those that are being made
  size_t idle;         // ready to be handed out
  size_t active;       // that are out
  size_t waiting;      // threads that wait for one now
  uint64_t waits;      // that ever had to
  uint64_t timeouts;   // that gave up
  uint64_t created;    // resources that were made
  uint64_t failed;     // that could not be
  uint64_t discarded;  // destroyed: too old, idle too long, invalid, invalidated, or closed
};

namespace detail {

template <class Function>
bool succeeds(Function function) noexcept {
#if defined(__cpp_exceptions)
  try {
    return function();
  } catch (...) {
    return false;
  }
#else
  return function();
#endif
}

// What a pool shares with its handles. A resource changes hands by the splicing of its entry, so
// that nothing is allocated or freed, and no function of the user's runs, with the mutex held.
//
//   size = idle + making + those that are out;  size <= max
//   who waits does so only while none is idle and size = max
template <class T>
class ResourceStore {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;

  struct Entry {
    std::unique_ptr<T> resource;
    TimePoint made_at;
    TimePoint idle_since;
    bool is_broken = false;
  };
  using Entries = std::list<Entry, Allocator<Entry>>;

  ResourceStore(Tag tag, ResourcePoolOptions<T> options)
      : tag_(tag), options_(std::move(options)), idle_(tag) {}

  // One entry, or none with errno.
  Entries acquire(TimePoint deadline) {
    discard_old();
    Entries entry(tag_);
    if (const int error = take(entry, deadline)) {
      errno = error;
      return entry;
    }
    while (!entry.empty()) {
      if (is_good(entry.front())) return entry;
      destroy(entry);
      const std::lock_guard lock(mutex_);
      ++counts_.discarded;
      // The next idle one, or another in the place of this.
      if (idle_.empty()) {
        ++making_;
      } else {
        entry.splice(entry.begin(), idle_, idle_.begin());
        --size_;  // nobody waits while one is idle
      }
    }
    return make();
  }

  void give_back(Entries& entry) noexcept {
    Entry& back = entry.front();
    if (!back.is_broken && options_.reset) {
      const TagScope scope(tag_);
      back.is_broken = !succeeds([&] { return options_.reset(*back.resource); });
    }
    put(entry);
    discard_old();
  }

  bool maintain() {
    discard_old();
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (is_closed_ || size_ >= options_.min) return true;
        ++size_;
        ++making_;
      }
      Entries entry = make();
      if (entry.empty()) return false;
      put(entry);
    }
  }

  void close() noexcept {
    Entries old(tag_);
    {
      const std::lock_guard lock(mutex_);
      is_closed_ = true;
      old.splice(old.end(), idle_);
      while (first_waiter_ != nullptr) wake_first(Waiter::kClosed);
    }
    discard(old);
  }

  ResourcePoolStats stats() const noexcept {
    const std::lock_guard lock(mutex_);
    ResourcePoolStats stats = counts_;
    stats.size = size_;
    stats.idle = idle_.size();
    stats.active = size_ - making_ - idle_.size();
    return stats;
  }
  Tag tag() const noexcept { return tag_; }

 private:
  // A thread that waits: on its stack, in the queue until it has its outcome.
  struct Waiter {
    enum Outcome { kNone, kServed, kClosed };
    std::condition_variable woken;
    Outcome outcome = kNone;
    Entries* entry;  // takes the resource; stays empty for a place to make one
    Waiter* next = nullptr;
  };

  // Where a resource is being made; given up unless that succeeds.
  struct Place {
    ResourceStore* store;
    ~Place() {
      if (store == nullptr) return;
      const std::lock_guard lock(store->mutex_);
      ++store->counts_.failed;
      --store->making_;
      store->give_up_place();
    }
  };

  // An entry, or the place to make one: 0. Else what is wrong.
  int take(Entries& entry, TimePoint deadline) {
    std::unique_lock lock(mutex_);
    if (is_closed_) return ECANCELED;
    if (!idle_.empty()) {
      entry.splice(entry.begin(), idle_, idle_.begin());
      return 0;
    }
    if (size_ < options_.max) {
      ++size_;
      ++making_;
      return 0;
    }
    Waiter waiter;
    waiter.entry = &entry;
    if (deadline <= Clock::now() || !wait(lock, waiter, deadline)) {
      ++counts_.timeouts;
      return ETIMEDOUT;
    }
    return waiter.outcome == Waiter::kClosed ? ECANCELED : 0;
  }

  // Having a place. What create throws is passed on; none with errno if it makes none.
  Entries make() {
    Place place{this};
    Entries entry(tag_);
    {
      const TagScope scope(tag_);
      if (!scope.active()) return entry;
      entry.emplace_back();
      entry.front().resource = options_.create();
    }
    if (entry.front().resource == nullptr) {
      entry.clear();
      return entry;
    }
    entry.front().made_at = Clock::now();
    place.store = nullptr;
    const std::lock_guard lock(mutex_);
    --making_;
    ++counts_.created;
    return entry;
  }

  bool is_good(Entry& entry) noexcept {
    if (is_too_old(entry, Clock::now())) return false;
    if (!options_.validate) return true;
    const TagScope scope(tag_);
    return succeeds([&] { return options_.validate(*entry.resource); });
  }

  // To who waits, or to the idle; or to nobody, if it is no good any more.
  void put(Entries& entry) noexcept {
    const TimePoint now = Clock::now();
    entry.front().idle_since = now;
    if (!entry.front().is_broken && !is_too_old(entry.front(), now)) {
      const std::lock_guard lock(mutex_);
      if (!is_closed_) {
        if (first_waiter_ == nullptr) {
          idle_.splice(idle_.begin(), entry);
        } else {
          first_waiter_->entry->splice(first_waiter_->entry->begin(), entry);
          wake_first(Waiter::kServed);
        }
        return;
      }
    }
    discard(entry);
  }

  void discard_old() noexcept {
    constexpr auto kNone = Clock::duration::max();
    if (options_.idle_limit == kNone && options_.lifetime_limit == kNone) return;
    Entries old(tag_);
    {
      const std::lock_guard lock(mutex_);
      if (idle_.empty()) return;
      collect_old(old);
    }
    discard(old);
  }

  // The places are free when the resources are gone, so that there are never more than max.
  void discard(Entries& entries) noexcept {
    const size_t count = entries.size();
    if (count == 0) return;
    destroy(entries);
    const std::lock_guard lock(mutex_);
    counts_.discarded += count;
    for (size_t n = 0; n < count; ++n) give_up_place();
  }

  void destroy(Entries& entries) noexcept {
    const TagScope scope(tag_);
    entries.clear();
  }

  bool is_too_old(const Entry& entry, TimePoint now) const noexcept {
    return now - entry.made_at > options_.lifetime_limit;
  }

  // The mutex is held in what follows.
  void collect_old(Entries& old) noexcept {
    const TimePoint now = Clock::now();
    for (auto at = idle_.end(); at != idle_.begin();) {
      const auto entry = std::prev(at);  // the longest idle first
      const bool is_surplus = size_ - old.size() > options_.min;
      if (is_too_old(*entry, now) ||
          (is_surplus && now - entry->idle_since > options_.idle_limit)) {
        old.splice(old.end(), idle_, entry);
      } else {
        at = entry;
      }
    }
  }

  void give_up_place() noexcept {
    if (first_waiter_ == nullptr) {
      --size_;
    } else {
      ++making_;
      wake_first(Waiter::kServed);
    }
  }

  // It may be gone as soon as the mutex is free.
  void wake_first(typename Waiter::Outcome outcome) noexcept {
    Waiter* waiter = first_waiter_;
    unlink(waiter);
    waiter->outcome = outcome;
    waiter->woken.notify_one();
  }

  // False if the time is over.
  bool wait(std::unique_lock<std::mutex>& lock, Waiter& waiter, TimePoint deadline) {
    Waiter** last = &first_waiter_;
    while (*last != nullptr) last = &(*last)->next;
    *last = &waiter;
    ++counts_.waiting;
    ++counts_.waits;
    while (waiter.outcome == Waiter::kNone) {
      if (deadline == TimePoint::max()) {
        waiter.woken.wait(lock);
      } else if (waiter.woken.wait_until(lock, deadline) == std::cv_status::timeout &&
                 waiter.outcome == Waiter::kNone) {
        unlink(&waiter);
        return false;
      }
    }
    return true;
  }

  void unlink(Waiter* waiter) noexcept {
    Waiter** link = &first_waiter_;
    while (*link != waiter) link = &(*link)->next;
    *link = waiter->next;
    --counts_.waiting;
  }
  // Until here.

  const Tag tag_;
  const ResourcePoolOptions<T> options_;
  mutable std::mutex mutex_;
  Entries idle_;  // the last to come back first
  Waiter* first_waiter_ = nullptr;
  size_t size_ = 0;
  size_t making_ = 0;
  bool is_closed_ = false;
  ResourcePoolStats counts_ = {};
};

}  // namespace detail

// Hands out resources of type T, each to one holder at a time, and makes new ones as they are
// needed, up to a bound. Who comes when all are out waits, and is served in the order of coming: by
// a resource that comes back, or by the place of one that was given up, to make his own.
//
// T and what it allocates in create, validate, reset and its destructor are under the pool's tag;
// what it allocates while it is out is under the tag of who uses it. Where the tag is retired
// nothing is made any more: acquire is empty with EINVAL.
//
// May be used from any thread. The functions of the options and T's destructor run with no lock
// held, on the thread that asks, or that gives back: on several threads at the same time. (A create
// that acquires from the same pool needs a second place.) No thread works in the background: what
// became old goes at the next call. The clock is the steady one. A thread must not be cancelled in
// a call, and the child of a fork in a program with threads must not make one.
template <class T>
class ResourcePool {
  using Store = detail::ResourceStore<T>;

 public:
  using Clock = std::chrono::steady_clock;
  using Options = ResourcePoolOptions<T>;

  // A resource in somebody's hands; it goes back when this is destroyed. One that is moved from, or
  // came of a failure, is empty and tests false. One thread at a time. It may outlive the pool:
  // then its resource is destroyed with it.
  class Handle {
   public:
    Handle() noexcept = default;
    Handle(Handle&&) noexcept = default;
    Handle& operator=(Handle&& other) noexcept {
      if (this != &other) {
        reset();
        store_ = std::move(other.store_);
        entry_ = std::move(other.entry_);
      }
      return *this;
    }
    ~Handle() { reset(); }

    explicit operator bool() const noexcept { return store_ != nullptr; }
    T* get() const noexcept { return store_ ? entry_.front().resource.get() : nullptr; }
    T& operator*() const noexcept { return *get(); }
    T* operator->() const noexcept { return get(); }

    // It is broken: to be destroyed when it goes back, not kept.
    void invalidate() noexcept {
      if (store_) entry_.front().is_broken = true;
    }
    // Gives it back now.
    void reset() noexcept {
      if (const std::shared_ptr<Store> store = std::move(store_)) store->give_back(entry_);
    }

   private:
    friend class ResourcePool;
    Handle(std::shared_ptr<Store> store, typename Store::Entries entry) noexcept
        : store_(std::move(store)), entry_(std::move(entry)) {}

    std::shared_ptr<Store> store_;
    typename Store::Entries entry_;  // one, or none
  };

  // Makes the first `min`: what create throws is passed on, what it could not make is missing (and
  // counted in stats().failed). std::invalid_argument: no create, max 0, min above max, no
  // lifetime. std::bad_alloc with EINVAL: no such tag, or retired.
  ResourcePool(Tag tag, Options options) {
    if (!options.create || options.max == 0 || options.min > options.max ||
        options.lifetime_limit <= Options::Duration::zero()) {
      detail::raise<std::invalid_argument>(
          "tally::ResourcePool: no create, max 0, min above max, or a lifetime limit of 0");
    }
    store_ = std::allocate_shared<Store>(Allocator<Store>(tag), tag, std::move(options));
    maintain();
  }
  ResourcePool(const ResourcePool&) = delete;
  ResourcePool& operator=(const ResourcePool&) = delete;
  // As close(). No thread may be about to call; those that wait already are woken.
  ~ResourcePool() { store_->close(); }

  // Waits as long as it takes. Empty with errno: ECANCELED (the pool is closed), or as create left
  // it when it returned null. What create throws is passed on; in both cases the place is free for
  // the next who waits, who then tries.
  [[nodiscard]] Handle acquire() { return get(Clock::time_point::max()); }
  // Waits so long at most; 0 or less: not at all. Empty also with ETIMEDOUT. What validate and
  // create take comes on top.
  template <class Rep, class Period>
  [[nodiscard]] Handle acquire_for(std::chrono::duration<Rep, Period> timeout) {
    using Seconds = std::chrono::duration<double>;
    constexpr Seconds kForEver = Seconds(Clock::duration::max()) / 4;
    if (Seconds(timeout) > kForEver) return acquire();
    const auto most = std::max(Seconds(timeout), Seconds::zero());
    return get(Clock::now() + std::chrono::ceil<Clock::duration>(most));
  }

  // Destroys what is too old or idle for too long, and makes what is missing of `min`: to be called
  // now and then where the pool may be unused for long. False if one could not be made; what create
  // throws is passed on.
  bool maintain() { return store_->maintain(); }

  // Wakes all who wait, with ECANCELED, and destroys what is idle; what is out is destroyed when it
  // comes back. There is no way back.
  void close() noexcept { store_->close(); }

  ResourcePoolStats stats() const noexcept { return store_->stats(); }
  Tag tag() const noexcept { return store_->tag(); }

 private:
  Handle get(typename Clock::time_point deadline) {
    std::shared_ptr<Store> store = store_;  // who waits may see the pool go
    typename Store::Entries entry = store->acquire(deadline);
    return entry.empty() ? Handle() : Handle(std::move(store), std::move(entry));
  }

  std::shared_ptr<Store> store_;
};

}  // namespace tally
