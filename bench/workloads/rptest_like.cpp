// Threads fill a table with blocks of random size up to 8 KiB, free a part of it in strides, pass
// the rest to the next thread, and free what they were passed.
#include <atomic>

#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const int threads = args.threads();
  const long loops = args.work(4000);
  constexpr uint32_t kTable = 3000;
  std::vector<std::atomic<std::vector<Block>*>> inbox(threads);

  const auto free_all = [](std::vector<Block>* blocks) {
    if (blocks != nullptr) std::for_each(blocks->begin(), blocks->end(), release);
    delete blocks;
  };
  run_threads(threads, [&](int index) {
    Random random(index + 1);
    std::vector<Block> table(kTable);
    for (long loop = 0; loop < loops; ++loop) {
      const uint32_t limit = loop % 4 == 0 ? 8000 : 800;
      for (Block& block : table) {
        if (block.bytes == nullptr) block = allocate(random.between(16, limit));
      }
      for (uint32_t stride = 2; stride <= 3; ++stride) {
        for (uint32_t i = random.below(stride); i < kTable; i += stride) release(table[i]);
      }
      auto* passed = new std::vector<Block>;
      for (uint32_t i = 0; i < kTable; i += 7) {
        if (table[i].bytes != nullptr) passed->push_back(table[i]);
        table[i].bytes = nullptr;
      }
      free_all(inbox[(index + 1) % threads].exchange(passed, std::memory_order_acq_rel));
      free_all(inbox[index].exchange(nullptr, std::memory_order_acq_rel));
    }
    std::for_each(table.begin(), table.end(), release);
  });
  for (auto& left : inbox) free_all(left.load());
}
