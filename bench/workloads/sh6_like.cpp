// Passes over a ladder of small sizes, small ones more often; each pass frees most of its blocks,
// in one of three orders, and leaves some for a later pass.
#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long passes = args.work(6000);
  std::vector<Block> kept;
  std::vector<Block> batch;
  for (long pass = 0; pass < passes; ++pass) {
    for (uint32_t size = 1; size <= 1000; size = size * 4 / 3 + 3) {
      const uint32_t count = 60000 / (size + 60);
      for (uint32_t i = 0; i < count; ++i) batch.push_back(allocate(size));
      const auto keep_or_release = [&](size_t i) {
        if (i % 16 == 5) {
          kept.push_back(batch[i]);
        } else {
          release(batch[i]);
        }
      };
      const size_t n = batch.size();
      switch (pass % 3) {
        case 0:
          for (size_t i = n; i-- > 0;) keep_or_release(i);
          break;
        case 1:
          for (size_t i = 0; i < n; ++i) keep_or_release(i);
          break;
        default:  // the odd ones forward, then the even ones backward
          for (size_t i = 1; i < n; i += 2) keep_or_release(i);
          for (size_t i = (n + 1) / 2; i-- > 0;) keep_or_release(2 * i);
      }
      batch.clear();
    }
    if (kept.size() > 20000) {  // the oldest half goes
      const auto half = kept.begin() + static_cast<long>(kept.size() / 2);
      std::for_each(kept.begin(), half, release);
      kept.erase(kept.begin(), half);
    }
  }
  std::for_each(kept.begin(), kept.end(), release);
}
