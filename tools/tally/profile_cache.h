// Profiles that are asked for again and again: what their calls are is looked up once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "profile.h"
#include "record_reader.h"
#include "symbols.h"

namespace tally::tool {

class ProfileCache {
 public:
  // Calls `use` with the newest profile of this record, which may be one of nothing. Several
  // threads may ask at once; those that ask for the same record, one after another.
  using Use = std::function<void(const Profile& profile, Symbols& symbols)>;
  void with(Reader& reader, const Use& use);

 private:
  struct Entry {
    explicit Entry(std::string root) : symbols(profile, std::move(root)) {}
    std::mutex mutex;
    // Read again each time, in place: what calls and modules there were, stay as they are.
    Profile profile;
    Symbols symbols;
  };
  // By file, when that was made, and whether its process lives: the files of a dead one are looked
  // for elsewhere.
  using Key = std::tuple<std::string, int64_t, bool>;
  std::shared_ptr<Entry> entry_of(Reader& reader);

  std::mutex mutex_;
  std::map<Key, std::shared_ptr<Entry>> entries_;
};

}  // namespace tally::tool
