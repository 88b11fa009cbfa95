// Many short threads, each leaving half of its blocks to the next one, so that memory of ended
// threads is used and freed by others (as mleak).
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long generations = args.work(2500);
  std::vector<std::vector<Block>> left(args.threads());
  for (long generation = 0; generation < generations; ++generation) {
    run_threads(args.threads(), [&](int index) {
      Random random(generation * 64 + index + 1);
      std::vector<Block> mine;
      for (int i = 0; i < 1000; ++i) mine.push_back(allocate(random.skewed(16, 6)));
      for (size_t i = 0; i < mine.size(); i += 2) release(mine[i]);
      std::vector<Block>& inherited = left[index];
      std::for_each(inherited.begin(), inherited.end(), release);
      inherited.swap(mine);
    });
  }
  for (auto& blocks : left) std::for_each(blocks.begin(), blocks.end(), release);
}
