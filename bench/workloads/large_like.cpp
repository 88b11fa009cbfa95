// Random replacement of a few blocks of 5 to 25 MiB whose every page is touched (as malloc-large).
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long replacements = args.work(80);
  Random random(1);
  std::vector<Block> blocks(20);
  for (long i = 0; i < replacements; ++i) {
    Block& block = blocks[random.below(20)];
    release(block);
    block = allocate(random.between(5u << 20, 25u << 20));
    for (uint32_t at = 4096; at < block.size - 1; at += 4096) block.bytes[at] = 1;
  }
  std::for_each(blocks.begin(), blocks.end(), release);
}
