#include "tag/names.h"

#include <string.h>

#include "base/math.h"

namespace tally::core {
namespace {

uint32_t hash_of(const char* path) {
  uint32_t hash = 2166136261;
  for (; *path != 0; ++path) hash = (hash ^ static_cast<unsigned char>(*path)) * 16777619;
  return hash ^ hash >> 15;
}

}  // namespace

void Names::reset(char* memory) {
  text_ = memory;
  since_ = reinterpret_cast<uint64_t*>(memory + kTextMost);
  used_ = since_ + kCells;
  index_.reset(reinterpret_cast<uint32_t*>(used_ + kCells), Index::slots_for(kCells));
  publication_ = 1;
  next_ = end_ = changed_from_ = changed_to_ = 0;
  no_room_for_ = kNone;
}

uint32_t Names::cells_at(uint32_t cell) const {
  return static_cast<uint32_t>(strlen(text_at(cell)) / kCell) + 1;
}

// From where the last name was put on, so that what is no longer needed can be read for as long as
// may be: what history has of it. kNone if there is none.
uint32_t Names::find_room(uint32_t cells) {
  auto hash = [this](uint32_t cell) { return hash_of(text_at(cell)); };
  uint32_t free = 0;
  for (uint32_t seen = 0; seen < kCells;) {
    if (next_ == kCells) next_ = free = 0;
    if (used_[next_] != 0 && used_[next_] >= publication_ - 1) {
      const uint32_t taken = cells_at(next_);
      next_ += taken;
      seen += taken;
      free = 0;
      continue;
    }
    if (used_[next_] != 0) {
      index_.remove(next_, hash);
      used_[next_] = 0;  // and with it its other cells are free
    }
    ++next_, ++seen;
    if (++free == cells) return next_ - cells;
  }
  return kNone;
}

void Names::put(const char* path, uint32_t at, uint32_t cells) {
  char* text = text_at(at);
  const size_t bytes = strlen(path) + 1;
  memcpy(text, path, bytes);
  memset(text + bytes, 0, cells * kCell - bytes);
  // What began at any of these cells is gone.
  for (uint32_t i = 0; i < cells; ++i) since_[at + i] = publication_;
  index_.add(at, [this](uint32_t cell) { return hash_of(text_at(cell)); });
  end_ = max_of(end_, at + cells);
  changed_from_ = changed_from_ == changed_to_ ? at : min_of(changed_from_, at);
  changed_to_ = max_of(changed_to_, at + cells);
}

uint32_t Names::offset_of(const char* path, bool stays) {
  LockGuard guard(lock);
  uint32_t at =
      index_.find(hash_of(path), [&](uint32_t cell) { return strcmp(text_at(cell), path) == 0; });
  if (at == Index::kNone) {
    const auto cells = static_cast<uint32_t>(strlen(path) / kCell) + 1;
    if (cells >= no_room_for_) return kNone;
    at = find_room(cells);
    if (at == kNone) {
      no_room_for_ = cells;
      return kNone;
    }
    put(path, at, cells);
  }
  if (used_[at] != kStays) used_[at] = stays ? kStays : publication_;
  return at * kCell;
}

void Names::keep(uint32_t offset) {
  LockGuard guard(lock);
  uint64_t* used = &used_[offset / kCell];
  if (*used != kStays) *used = publication_;
}

void Names::publish() {
  LockGuard guard(lock);
  ++publication_;
  no_room_for_ = kNone;
}

// None is younger than the file, and all are new to it.
void Names::begin_anew() {
  LockGuard guard(lock);
  for (uint32_t i = 0; i < end_; ++i) {
    since_[i] = 0;
    if (used_[i] != 0 && used_[i] != kStays) used_[i] = 1;
  }
  publication_ = 1;
  no_room_for_ = kNone;
  changed_from_ = 0;
  changed_to_ = end_;
}

}  // namespace tally::core
