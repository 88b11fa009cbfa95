// Each thread replaces random blocks of a working set of its own (as glibc-thread and alloc-test).
// --mode=set1k: 1,024 blocks, short-lived and in the cache; --mode=set1m: a million blocks, every
// access a miss.
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const bool small = args.mode() == "set1k";
  const auto set = static_cast<uint32_t>(small ? 1024 : args.work(1000000));
  const long operations = args.work(small ? 40000000 : 6000000);
  run_threads(args.threads(), [&](int index) {
    Random random(index + 1);
    std::vector<Block> blocks(set);
    for (long i = 0; i < operations; ++i) {
      Block& block = blocks[random.below(set)];
      if (block.bytes != nullptr) {
        release(block);
      } else {
        block = allocate(random.skewed(8, small ? 7 : 6));
      }
    }
    std::for_each(blocks.begin(), blocks.end(), release);
  });
}
