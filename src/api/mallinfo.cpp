#include "api/mallinfo.h"

#include <errno.h>

#include "base/math.h"
#include "stats/walk.h"

namespace tally::core::api {

// glibc's fields, as far as they have a meaning here: taken, in use, free.
struct mallinfo2 mallinfo2() {
  struct mallinfo2 info = {};
  int error = errno;
  tally_snapshot_t* snapshot = take_snapshot();
  if (snapshot != nullptr) {
    const tally_process_stats_t& process = snapshot->process;
    uint64_t large_bytes = 0, large_blocks = 0;
    for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
      large_bytes += snapshot->tags[i].own.large_live_bytes;
      large_blocks += snapshot->tags[i].own.large_live_blocks;
    }
    for (uint64_t i = 0; i < snapshot->class_count; ++i) {
      info.ordblks += snapshot->classes[i].capacity_blocks - snapshot->classes[i].live_blocks;
    }
    info.arena = process.footprint_bytes - large_bytes;
    info.hblks = large_blocks;
    info.hblkhd = large_bytes;
    info.uordblks = process.live_bytes - large_bytes;
    info.fordblks = process.footprint_bytes - process.live_bytes;
    info.keepcost = process.mapped_bytes - min_of(process.mapped_bytes, process.footprint_bytes);
    free_snapshot(snapshot);
  }
  errno = error;
  return info;
}

// The old form's ints stop at their highest value instead of wrapping.
struct mallinfo mallinfo() {
  struct mallinfo2 wide = mallinfo2();
  auto narrow = [](size_t n) { return static_cast<int>(min_of(n, INT32_MAX)); };
  struct mallinfo info = {};
  info.arena = narrow(wide.arena);
  info.ordblks = narrow(wide.ordblks);
  info.hblks = narrow(wide.hblks);
  info.hblkhd = narrow(wide.hblkhd);
  info.uordblks = narrow(wide.uordblks);
  info.fordblks = narrow(wide.fordblks);
  info.keepcost = narrow(wide.keepcost);
  return info;
}

}  // namespace tally::core::api
