// A server that turns requests away before memory is short, instead of failing those that it took.
//
// The buffers of all requests are under one tag. Its soft limit says when to take no more: a look
// at the pressure costs a few nanoseconds, so each request may have its own. Between the soft and
// the hard limit is what the requests that were taken may need still; so for them, nothing fails.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iostream>
#include <memory>
#include <new>
#include <random>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;
constexpr int kThreads = 4;
constexpr int kRequests = 60'000;     // that come to each thread
constexpr size_t kAnswerAfter = 200;  // a backend answers when so many more have come
constexpr size_t kMostHeader = 4 * kKiB;
constexpr size_t kMostBody = 60 * kKiB;
constexpr size_t kMostReply = 60 * kKiB;

// Between the two each thread may have found the pressure normal and not yet allocated, and be
// about to reply: half a MiB. The rest is for what the slabs of so many sizes hold beside the
// blocks in use, and for TALLY_RESERVE, which ordinary requests may not draw on.
constexpr uint64_t kSoftLimit = 12 * kMiB;
constexpr uint64_t kHardLimit = 16 * kMiB;
static_assert(kHardLimit - kSoftLimit > 4 * kThreads * (kMostHeader + kMostBody + kMostReply));

struct Counts {
  std::atomic<uint64_t> accepted{0}, shed{0}, failed{0}, answered{0};
};

using Buffer = std::unique_ptr<std::byte[]>;

Buffer make_buffer(size_t size) {
  Buffer buffer(new std::byte[size]);
  std::memset(buffer.get(), 1, size);
  return buffer;
}

// One of the server's threads: what it took and has not answered yet, oldest first.
class Worker {
 public:
  Worker(tally::Tag tag, unsigned seed, Counts& counts)
      : tag_(tag), random_(seed), counts_(counts) {}

  void run() {
    for (size_t now = 0; now < kRequests; ++now) {
      while (!taken_.empty() && now - taken_.front().came >= kAnswerAfter) answer();
      // Not one byte is spent on a request that is turned away.
      if (tag_.pressure() == tally::Pressure::kNormal) {
        accept(now);
      } else {
        ++counts_.shed;
      }
      std::this_thread::yield();  // until the next comes
    }
    while (!taken_.empty()) answer();
  }

 private:
  struct Request {
    size_t came;
    Buffer header, body;
  };

  void accept(size_t now) try {
    Request request{now, {}, {}};
    {
      tally::TagScope scope(tag_);
      request.header = make_buffer(200 + random_() % (kMostHeader - 200));
      request.body = make_buffer(1 + random_() % kMostBody);
    }
    taken_.push_back(std::move(request));
    ++counts_.accepted;
  } catch (const std::bad_alloc&) {
    ++counts_.failed;
  }

  void answer() try {
    {
      tally::TagScope scope(tag_);
      Buffer reply = make_buffer(1 + random_() % kMostReply);
    }
    taken_.pop_front();
    ++counts_.answered;
  } catch (const std::bad_alloc&) {
    taken_.pop_front();
    ++counts_.failed;
  }

  const tally::Tag tag_;
  std::mt19937 random_;
  Counts& counts_;
  std::deque<Request> taken_;
};

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag tag = tally::Tag::create("/server/requests");
  if (!tag.limit(kSoftLimit, kHardLimit)) return 1;
  Counts counts;
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= kThreads; ++seed) {
    threads.emplace_back([&, seed] { Worker(tag, seed, counts).run(); });
  }
  for (std::thread& thread : threads) thread.join();

  const tally_stats_t stats = tag.stats();
  const uint64_t offered = uint64_t{kThreads} * kRequests;
  std::cout << offered << " requests: " << counts.accepted << " accepted, " << counts.shed
            << " shed, " << counts.failed << " failed\n"
            << "soft limit " << kSoftLimit / kKiB << " KiB, peak "
            << stats.total.peak_footprint_bytes / kKiB << " KiB, hard limit " << kHardLimit / kKiB
            << " KiB\n"
            << "shedding began " << stats.pressure_count << " times\n";

  bool ok = holds(counts.failed == 0 && stats.refused_count == 0, "no allocation fails");
  ok &= holds(counts.shed != 0, "more comes than there is room for");
  ok &= holds(counts.accepted > offered / 20, "it serves what there is room for");
  ok &= holds(counts.answered == counts.accepted, "what is accepted is answered");
  ok &= holds(stats.total.peak_footprint_bytes <= kHardLimit, "the peak is within the limit");
  return ok ? 0 : 1;
}
