// Threads write to small blocks of their own all the time: slow if the allocator puts blocks of two
// threads into one cache line. --mode=active: blocks are each thread's own from the start (as in
// cache-thrash). --mode=passive: each thread first frees a block that the main thread allocated
// beside the other threads' (as in cache-scratch).
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  constexpr uint32_t kSize = 8;
  const long blocks = args.work(3000000);
  std::vector<Block> handed(args.threads());
  if (args.mode() == "passive") {
    for (Block& block : handed) block = allocate(kSize);
  }
  run_threads(args.threads(), [&](int index) {
    release(handed[index]);
    for (long i = 0; i < blocks; ++i) {
      Block block = allocate(kSize);
      volatile unsigned char* bytes = block.bytes;
      for (int write = 0; write < 100; ++write) {
        for (uint32_t k = 1; k < kSize - 1; ++k) bytes[k] = static_cast<unsigned char>(write);
      }
      release(block);
    }
  });
}
