// What a program holds after its peak: 2 GiB of blocks, 95 % of them freed at random, then nothing.
// Live bytes and RSS at each moment. Modes: mixed (default: 16 bytes to 1 MiB, as many bytes from
// each doubling), small (to 1 KiB).
#include <malloc.h>
#include <unistd.h>

#include <bit>
#include <utility>

#include "report.hpp"
#include "workload.hpp"

using namespace workload;

namespace {

uint32_t mixed(Random& random) {
  // A size of each doubling half as likely as of the one before.
  const int doubling = std::countr_zero(random.next() | 1 << 15);
  const uint32_t base = 16U << doubling;
  return base + random.below(base);
}

void say(const char* moment, uint64_t live) {
  report("live", moment, "MiB", static_cast<double>(live) / kMiB);
  report("RSS", moment, "MiB", resident() / kMiB);
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const bool small = args.mode() == "small";
  const uint64_t target = static_cast<uint64_t>(args.work(2048)) << 20;
  Random random(1);
  std::vector<Block> blocks;
  blocks.reserve(target / 64);
  uint64_t live = 0;
  while (live < target) {
    const uint32_t size = small ? random.between(16, 1024) : mixed(random);
    blocks.push_back(allocate(size));
    // Touched whole, as programs do.
    for (uint32_t at = 0; at < size; at += 4096) blocks.back().bytes[at] = blocks.back().mark();
    live += size;
  }
  say("at the peak", live);
  for (size_t i = blocks.size(); i > 1; --i) {
    std::swap(blocks[i - 1], blocks[random.below(static_cast<uint32_t>(i))]);
  }
  for (size_t i = blocks.size() / 20; i < blocks.size(); ++i) {
    live -= blocks[i].size;
    release(blocks[i]);
  }
  say("95 % freed", live);
  if (args.work(100) >= 10) {  // a smoke run does not wait
    usleep(1500 * 1000);
    say("1.5 s later", live);
    usleep(8500 * 1000);
    say("10 s later", live);
  }
  malloc_trim(0);  // of glibc and Tally; under another malloc it does nothing of note
  say("after malloc_trim", live);
}
