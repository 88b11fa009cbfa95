// Generations of threads with a mix of lifetimes: most blocks die young, some are kept to the end
// of the thread, some are exchanged with other threads, some outlive their thread; a few are big.
#include <atomic>

#include "workload.hpp"

using namespace workload;

namespace {

constexpr size_t kSlots = 1000;
std::atomic<Block*> exchange[kSlots];

Block* make(Random& random) {
  const uint32_t kind = random.below(1000);
  const uint32_t size = kind < 3     ? random.skewed(16 << 10, 3)
                        : kind < 100 ? random.skewed(512, 4)
                                     : random.skewed(8, 5);
  return new Block(allocate(size));
}

void drop(Block* block) {
  if (block == nullptr) return;
  release(*block);
  delete block;
}

void work(uint64_t seed, long items) {
  Random random(seed);
  std::vector<Block*> young;
  std::vector<Block*> kept;
  for (long i = 0; i < items; ++i) {
    young.push_back(make(random));
    const uint32_t choice = random.below(100);
    if (choice < 20) {
      kept.push_back(make(random));
    }
    if (choice < 60 && !young.empty()) {
      std::swap(young[random.below(static_cast<uint32_t>(young.size()))], young.back());
      drop(young.back());
      young.pop_back();
    }
    if (choice % 4 == 0 && !young.empty()) {
      Block*& mine = young[random.below(static_cast<uint32_t>(young.size()))];
      mine = exchange[random.below(kSlots)].exchange(mine, std::memory_order_acq_rel);
    }
    if (young.size() > 5000) {
      for (Block* block : young) drop(block);
      young.clear();
    }
  }
  for (Block* block : young) drop(block);
  for (Block* block : kept) drop(block);
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long generations = args.work(25);
  const long items = args.work(100000);
  const int threads = 2 * args.threads();  // more threads than cores
  for (long generation = 0; generation < generations; ++generation) {
    run_threads(threads, [&](int index) { work(generation * 100 + index + 1, items); });
  }
  for (auto& slot : exchange) drop(slot.load());
}
