// Server churn: a worker replaces random ones of its blocks, then ends and hands them all to its
// successor, as the threads of a server do with what belongs to connections. The first blocks are
// the main thread's.
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  constexpr uint32_t kBlocks = 5000;
  const bool sized = args.mode() == "sized";  // C++ new, and delete that knows the size
  const long generations = args.work(240);
  const long replacements = args.work(100000);

  const auto get = [&](uint32_t size) {
    if (!sized) return allocate(size);
    Block block{static_cast<unsigned char*>(::operator new(size)), size};
    block.bytes[0] = block.bytes[size - 1] = block.mark();
    return block;
  };
  const auto give = [&](Block& block) {
    if (!sized) return release(block);
    ::operator delete (block.bytes, size_t{block.size});
  };

  std::vector<std::vector<Block>> lanes(args.threads());
  Random random(1);
  for (auto& lane : lanes) {
    for (uint32_t i = 0; i < kBlocks; ++i) lane.push_back(get(random.between(8, 1000)));
    for (uint32_t i = 0; i < kBlocks; ++i) std::swap(lane[i], lane[random.below(kBlocks)]);
  }
  run_threads(args.threads(), [&](int index) {
    std::vector<Block>& lane = lanes[index];
    for (long generation = 0; generation < generations; ++generation) {
      std::thread([&, generation] {
        Random choice(index * 1000 + generation);
        for (long i = 0; i < replacements; ++i) {
          Block& block = lane[choice.below(kBlocks)];
          give(block);
          block = get(choice.between(8, 1000));
        }
      }).join();
    }
  });
  for (auto& lane : lanes) {
    for (Block& block : lane) give(block);
  }
}
