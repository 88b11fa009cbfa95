#include "profile_cache.h"

namespace tally::tool {
namespace {

constexpr size_t kEntriesMost = 32;

}  // namespace

std::shared_ptr<ProfileCache::Entry> ProfileCache::entry_of(Reader& reader) {
  const bool is_live = reader.is_live();
  const Key key = {reader.path(), reader.head().created, is_live};
  const std::lock_guard lock(mutex_);
  auto at = entries_.find(key);
  if (at != entries_.end()) return at->second;
  if (entries_.size() == kEntriesMost) entries_.clear();  // mostly of processes that have ended
  auto entry = std::make_shared<Entry>(root_of(reader.path(), reader.head().pid, is_live));
  entries_.emplace(key, entry);
  return entry;
}

void ProfileCache::with(Reader& reader, const Use& use) {
  const std::shared_ptr<Entry> entry = entry_of(reader);
  const std::lock_guard lock(entry->mutex);
  entry->profile = reader.read_profile();
  use(entry->profile, entry->symbols);
}

}  // namespace tally::tool
