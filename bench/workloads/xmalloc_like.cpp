// Producers only allocate, consumers only free: every block crosses threads.
#include <condition_variable>
#include <deque>
#include <mutex>

#include "workload.hpp"

using namespace workload;

namespace {

// Batches in flight, bounded, so that a slow consumer holds the producers back.
class Queue {
 public:
  void put(std::vector<Block> batch) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return batches_.size() < 64; });
    batches_.push_back(std::move(batch));
    changed_.notify_all();
  }
  std::vector<Block> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !batches_.empty(); });
    std::vector<Block> batch = std::move(batches_.front());
    batches_.pop_front();
    changed_.notify_all();
    return batch;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<Block>> batches_;
};

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const int pairs = std::max(1, args.threads() / 2);
  const long batches = args.work(15000);
  Queue queue;
  run_threads(2 * pairs, [&](int index) {
    Random random(index + 1);
    for (long i = 0; i < batches; ++i) {
      std::vector<Block> batch;
      if (index % 2 == 0) {
        batch.reserve(1000);
        for (int k = 0; k < 1000; ++k) batch.push_back(allocate(random.skewed(16, 5)));
        queue.put(std::move(batch));
      } else {
        batch = queue.take();
        std::for_each(batch.begin(), batch.end(), release);
      }
    }
  });
}
