// One thread allocates blocks of 16 to 1024 bytes, another frees them. Memory must not grow: what
// the one frees must come back to the other.
#include "channel.hpp"
#include "report.hpp"
#include "workload.hpp"

using namespace workload;

namespace {

Channel channel;

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const auto count = static_cast<uint64_t>(args.work(20000000));
  double quarter = 0;
  const Clock clock;
  std::thread consumer([&] {
    for (uint64_t at = 0; at < count; ++at) {
      void* p = channel.take(at);
      uint32_t size = 0;
      std::memcpy(&size, p, sizeof size);
      Block block{static_cast<unsigned char*>(p), size};
      block.bytes[0] = block.mark();  // the size was there
      release(block);
    }
  });
  Random random(1);
  for (uint64_t at = 0; at < count; ++at) {
    if (at == count / 4) quarter = resident();
    const Block block = allocate(random.between(16, 1024));
    std::memcpy(block.bytes, &block.size, sizeof block.size);
    channel.put(at, block.bytes);
  }
  consumer.join();
  const double seconds = clock.seconds();
  const double end = resident();
  report("malloc and free", "", "million/s", static_cast<double>(count) / seconds / 1e6);
  report("peak RSS", "", "MiB", peak_resident() / kMiB);
  report("growth of RSS", "from a quarter to the end", "MiB", (end - quarter) / kMiB);
}
