// One size at a time: n blocks allocated, the n freed in the same order, for n from 25 to 1600 (as
// glibc-simple).
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long operations = args.work(1000000);
  std::vector<Block> blocks(1600);
  for (uint32_t size : {16u, 32u, 48u, 128u, 512u, 1024u}) {
    for (long n : {25L, 100L, 400L, 1600L}) {
      for (long i = 0; i < operations; i += n) {
        for (long k = 0; k < n; ++k) blocks[k] = allocate(size);
        for (long k = 0; k < n; ++k) release(blocks[k]);
      }
    }
  }
}
