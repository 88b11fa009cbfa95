// Tally's tags, for programs that run under any malloc: under another one they do nothing.
#pragma once

#include <dlfcn.h>
#include <tally/tally.h>

#include <string>
#include <vector>

namespace workload {

class Tags {
 public:
  // "bench/NAME/0" and so on.
  Tags(const char* name, int count) : ids_(static_cast<size_t>(count)) {
    find(create_, "tally_tag_create");
    find(push_, "tally_tag_push");
    find(pop_, "tally_tag_pop");
    find(stats_, "tally_stats");
    for (int i = 0; live() && i < count; ++i) {
      ids_[static_cast<size_t>(i)] =
          create_(("bench/" + std::string(name) + "/" + std::to_string(i)).c_str());
    }
  }

  bool live() const { return create_ && push_ && pop_ && stats_; }
  size_t count() const { return ids_.size(); }
  void push(size_t index) const {
    if (push_ != nullptr && push_(ids_[index]) != 0) std::abort();
  }
  void pop() const {
    if (pop_ != nullptr && pop_() != 0) std::abort();
  }
  // Of the whole process.
  tally_counts counts() const {
    tally_stats_t stats = {};
    stats.size = sizeof stats;
    if (stats_ == nullptr || stats_(TALLY_TAG_ROOT, &stats) != 0) std::abort();
    return stats.total;
  }

 private:
  template <typename Function>
  static void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  }

  decltype(&tally_tag_create) create_ = nullptr;
  decltype(&tally_tag_push) push_ = nullptr;
  decltype(&tally_tag_pop) pop_ = nullptr;
  decltype(&tally_stats) stats_ = nullptr;
  std::vector<tally_tag> ids_;
};

}  // namespace workload
