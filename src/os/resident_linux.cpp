// resident.h for Linux.
#include <fcntl.h>

#include <atomic>

#include "base/math.h"
#include "os/os.h"
#include "os/resident.h"
#include "os/system_call.h"

namespace tally::core::os {
namespace {

// A descriptor of a file of /proc that is kept, out of the program's way: who opens one each time
// takes the lowest number for a moment, which the program may count on, or close.
class KeptFile {
 public:
  // Of the thread: where main ended by pthread_exit, /proc/self is one without memory.
  constexpr explicit KeptFile(const char* path) : path_(path) {}

  void keep() {
    const int old = fd_.exchange(-1, std::memory_order_relaxed);
    if (old >= 0 && file_id(old) == id_) drop_descriptor(old);
    const long fd = open_to_read();
    if (failed(fd)) return;
    const int kept = keep_descriptor(static_cast<int>(fd));
    system_call(__NR_close, fd);
    if (kept < 0) return;
    id_ = file_id(kept);
    process_ = process_id();
    fd_.store(kept, std::memory_order_release);
  }
  // Calls use(fd) with the one that is kept, and if that returns false (it was of a thread that has
  // ended) with another. False: likewise.
  template <class Use>
  bool with(Use use) const {
    const int kept = fd_.load(std::memory_order_acquire);
    const bool is_ours = kept >= 0 && process_ == process_id() && file_id(kept) == id_;
    if (is_ours && use(kept)) return true;
    const long fd = open_to_read();
    if (failed(fd)) return false;
    const bool done = use(fd);
    system_call(__NR_close, fd);
    return done;
  }

 private:
  long open_to_read() const {
    return system_call(__NR_openat, AT_FDCWD, as_long(path_), O_RDONLY | O_CLOEXEC);
  }

  const char* path_;
  std::atomic<int> fd_{-1};
  FileId id_;
  int64_t process_ = 0;
};
constinit KeptFile g_statm("/proc/thread-self/statm"), g_pagemap("/proc/thread-self/pagemap");

// The text's length; 0: it cannot be read.
size_t read_statm(long fd, char* text, size_t capacity) {
  const long length = system_call(__NR_pread64, fd, as_long(text), static_cast<long>(capacity), 0);
  const bool has_memory = length > 0 && text[0] != '0';
  return has_memory ? static_cast<size_t>(length) : 0;
}

}  // namespace

void keep_resident_at_hand() {
  g_statm.keep();
  g_pagemap.keep();
}

Resident resident() {
  char text[128];
  size_t length = 0;
  g_statm.with([&](long fd) {
    length = read_statm(fd, text, sizeof text - 1);
    return length != 0;
  });
  text[length] = 0;
  // The second number of pages, and the third.
  size_t bytes[3];
  const char* at = text;
  for (size_t& of : bytes) {
    size_t pages = 0;
    for (; *at >= '0' && *at <= '9'; ++at) pages = pages * 10 + static_cast<size_t>(*at - '0');
    of = pages * page_size();
    if (*at == ' ') ++at;
  }
  return {bytes[1], bytes[2]};
}

namespace {

constexpr size_t kPagesAtOnce = 256;

// Adds those pages that are resident. False: that cannot be told.
bool add_by_pagemap(long fd, uintptr_t first, size_t count, size_t* resident) {
  uint64_t entries[kPagesAtOnce];
  const auto size = static_cast<long>(count * sizeof(uint64_t));
  const auto offset = static_cast<long>(first * sizeof(uint64_t));
  if (system_call(__NR_pread64, fd, as_long(entries), size, offset) != size) return false;
  constexpr int kPresent = 63;
  for (size_t i = 0; i < count; ++i) *resident += entries[i] >> kPresent;
  return true;
}
bool add_by_mincore(uintptr_t first, size_t count, size_t* resident) {
  unsigned char pages[kPagesAtOnce];
  const auto at = static_cast<long>(first * page_size());
  const auto bytes = static_cast<long>(count * page_size());
  if (failed(system_call(__NR_mincore, at, bytes, as_long(pages)))) return false;
  for (size_t i = 0; i < count; ++i) *resident += pages[i] & 1;
  return true;
}

// Calls add(first, count, &resident) until it returns false.
template <class Add>
bool add_in_steps(uintptr_t first, size_t count, size_t* resident, Add add) {
  *resident = 0;
  for (size_t done = 0; done < count; done += kPagesAtOnce) {
    if (!add(first + done, min_of(count - done, kPagesAtOnce), resident)) return false;
  }
  return true;
}

}  // namespace

// By mincore only where a process is kept from its own pagemap, as after setuid: filters kill for
// it (systemd's @system-service has it not), and do not for what reads a file.
size_t resident_in(const void* p, size_t bytes) {
  const uintptr_t first = address(p) / page_size();
  const size_t count = bytes / page_size();
  size_t resident = 0;
  const bool is_known = g_pagemap.with([&](long fd) {
    return add_in_steps(first, count, &resident, [fd](uintptr_t at, size_t some, size_t* to) {
      return add_by_pagemap(fd, at, some, to);
    });
  });
  if (!is_known && !is_filtered()) add_in_steps(first, count, &resident, add_by_mincore);
  return resident * page_size();
}

}  // namespace tally::core::os
