// Does an operation get slower as the heap grows? Blocks of 16 to 512 bytes, up to a live size,
// then random replacement: a block is freed and one of another size allocated. A fixed number of
// operations at each live size, in one process that grows; before them, and reported apart, those
// that bring the blocks out of order.
#include "report.hpp"
#include "workload.hpp"

using namespace workload;

namespace {

constexpr uint32_t kLow = 16;
constexpr uint32_t kHigh = 512;

void* block(Random& random) {
  void* p = std::malloc(random.between(kLow, kHigh));
  if (p == nullptr) std::abort();
  *static_cast<volatile char*>(p) = 1;  // as programs do; with Block's checks it would be more than
  return p;                             // what is measured
}

// Nanoseconds each.
double replace(std::vector<void*>& blocks, Random& random, uint64_t count) {
  const Clock clock;
  for (uint64_t i = 0; i < count; ++i) {
    void*& at = blocks[random.below(static_cast<uint32_t>(blocks.size()))];
    std::free(at);
    at = block(random);
  }
  return clock.seconds() * 1e9 / static_cast<double>(count);
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const auto largest = static_cast<uint64_t>(args.work(8192));  // MiB
  const auto operations = static_cast<uint64_t>(args.work(2000000));
  const uint64_t available = kib_line("/proc/meminfo", "\nMemAvailable:") >> 20;
  Random random(1);
  std::vector<void*> blocks;
  blocks.reserve((largest << 20) / ((kLow + kHigh) / 2) + 1);  // never copied, never touched early
  for (const uint64_t mib : {1, 8, 64, 512, 1024, 2048, 4096, 8192}) {
    // What is left over: the allocator's own, and the rest of the machine.
    if (mib > largest || (available != 0 && mib > 8 && mib > available * 2 / 3)) break;
    const uint64_t count = (mib << 20) / ((kLow + kHigh) / 2);
    while (blocks.size() < count) blocks.push_back(block(random));
    const std::string point = std::to_string(mib) + " MiB live";
    // The first ones find the blocks in the order of their addresses, and no room between them.
    const uint64_t first = std::max(operations / 4, count / 8);
    report("first replacements", point.c_str(), "ns", replace(blocks, random, first));
    report("replacement", point.c_str(), "ns", replace(blocks, random, operations));
    report("RSS", point.c_str(), "MiB", resident() / kMiB);
  }
  for (void* p : blocks) std::free(p);
}
