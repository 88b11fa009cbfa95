// The sampled heap profile (sample/profile.h) in the record.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/file.h"
#include "record/layout.h"

namespace tally::record {

// One thread at a time.
class ProfileWriter {
 public:
  // What the profile is made in before it is written.
  struct Memory {
    alignas(4096) char rows[kProfileBytes];
    uint32_t new_sites[kSitesMax];  // where the sites are in the rows
  };

  // Nothing of it is in the file.
  void reset(Memory* memory);
  // What is new. 0, or an errno.
  int write(const File& file);

 private:
  int write_modules(const File& file, uint32_t count);
  int write_calls(const File& file, uint32_t count);
  uint32_t pack_sites();
  uint32_t pack_samples(uint32_t site_count);
  bool pack();
  int write_packed(const File& file);

  Memory* memory_ = nullptr;
  uint64_t sequence_ = 0;
  uint64_t changes_ = 0;  // of the profile that were written
  uint32_t calls_ = 0;    // that were written
  uint32_t modules_ = 0;  // likewise
};

}  // namespace tally::record
