#include "tag/names.h"

#include <string.h>

namespace tally::core {
namespace {

constexpr uint32_t kTableFirst = 256;

uint32_t hash_of(const char* path) {
  uint32_t hash = 2166136261;
  for (; *path != 0; ++path) hash = (hash ^ static_cast<unsigned char>(*path)) * 16777619;
  return hash ^ hash >> 15;
}

}  // namespace

void Names::reset(char* memory) {
  lock_.reset_after_fork();
  text_ = memory;
  table_ = reinterpret_cast<uint32_t*>(memory + kTextMost);
  used_ = written_ = count_ = 0;
  mask_ = kTableFirst - 1;
  memset(table_, 0, kTableFirst * sizeof *table_);
}

// Where it is in the table, or would be.
uint32_t* Names::place_of(const char* path) {
  for (uint32_t i = hash_of(path);; ++i) {
    uint32_t* place = &table_[i & mask_];
    if (*place == 0 || strcmp(text_ + *place - 1, path) == 0) return place;
  }
}

// Twice the table, filled anew from the paths.
void Names::grow() {
  mask_ = mask_ * 2 + 1;
  memset(table_, 0, (mask_ + 1) * sizeof *table_);
  for (uint32_t at = 0; at < used_; at += static_cast<uint32_t>(strlen(text_ + at)) + 1) {
    *place_of(text_ + at) = at + 1;
  }
}

uint32_t Names::offset_of(const char* path) {
  LockGuard guard(lock_);
  uint32_t* place = place_of(path);
  if (*place != 0) return *place - 1;
  const size_t bytes = strlen(path) + 1;
  if (count_ > mask_ / 4 * 3) {
    if (mask_ + 1 == kTableMost) return kNone;
    grow();
    place = place_of(path);
  }
  if (bytes > kTextMost - used_) return kNone;
  memcpy(text_ + used_, path, bytes);
  *place = used_ + 1;
  ++count_;
  used_ += static_cast<uint32_t>(bytes);
  return *place - 1;
}

}  // namespace tally::core
