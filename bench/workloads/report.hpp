// What the workloads of properties.py share: the lines that they print, and what memory the kernel
// says the process has.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace workload {

inline constexpr double kMiB = 1 << 20;

// One figure: "metric,point,unit,value". The point says at which size, moment or percentile; it may
// be empty.
inline void report(const char* metric, const char* point, const char* unit, double value) {
  std::printf("%s,%s,%s,%.6g\n", metric, point, unit, value);
  std::fflush(stdout);
}

// The number after `key` in a file of /proc, in bytes; 0 if the file or the key is not there. It
// allocates nothing.
inline uint64_t kib_line(const char* path, const char* key) {
  char text[4096];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* line = std::strstr(text, key);
  return line == nullptr ? 0 : std::strtoull(line + std::strlen(key), nullptr, 10) << 10;
}

// Bytes resident now. By the page tables where the kernel offers it: the counters in
// /proc/self/status are off by up to a few hundred KiB.
inline double resident() {
  const uint64_t exact = kib_line("/proc/self/smaps_rollup", "\nRss:");
  return static_cast<double>(exact != 0 ? exact : kib_line("/proc/self/status", "\nVmRSS:"));
}

inline double peak_resident() {
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_maxrss) * 1024;
}

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace workload
