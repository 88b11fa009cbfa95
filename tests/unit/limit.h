// What the tests of limits have in common.
#pragma once

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "unit.h"

namespace tally::unit {

inline void free_all(std::vector<void*>* blocks) {
  for (void* p : *blocks) tally_free(p);
  blocks->clear();
}

using Clock = std::chrono::steady_clock;
inline long ms_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
}

// A tag with one below it.
class LimitTest : public testing::Test {
 protected:
  LimitTest()
      : path_(std::string("/") + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    tag_ = make_tag(path_.c_str());
    below_ = make_tag((path_ + "/below").c_str());
  }
  ~LimitTest() override {
    tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  }

  // Allocates what f says until one is refused.
  template <class Size>
  std::vector<void*> fill_up(tally_tag tag, Size size) {
    std::vector<void*> blocks;
    blocks.reserve(1 << 20);
    while (void* p = tally_malloc(tag, size())) blocks.push_back(p);
    EXPECT_EQ(errno, ENOMEM);
    return blocks;
  }
  uint64_t held() const { return stats(tag_).total.footprint_bytes; }

  std::string path_;
  tally_tag tag_, below_;
};

// A callback that notes what it is told.
struct Heard {
  std::vector<int> levels;
  std::vector<std::thread::id> threads;
  void note(int level) {
    levels.push_back(level);
    threads.push_back(std::this_thread::get_id());
  }
};
inline void hear(tally_tag /*tag*/, int level, void* heard) {
  static_cast<Heard*>(heard)->note(level);
}

inline tally_pressure_options without_interval(uint32_t levels = 0) {
  return {sizeof(tally_pressure_options), levels, 1};
}

// A callback that frees some of its tag's blocks.
struct Evictor {
  std::vector<void*> blocks;
  tally_tag tag;
  int calls = 0, depth = 0;
  bool was_nested = false;
};

inline void evict(tally_tag tag, int level, void* arg) {
  auto& evictor = *static_cast<Evictor*>(arg);
  ++evictor.calls;
  if (evictor.depth++ != 0) evictor.was_nested = true;
  EXPECT_EQ(tag, evictor.tag);
  void* p = malloc(1000);
  free(p);
  for (int i = 0; i < 150 && level == TALLY_PRESSURE_HARD && !evictor.blocks.empty(); ++i) {
    tally_free(evictor.blocks.back());
    evictor.blocks.pop_back();
  }
  --evictor.depth;
}

}  // namespace tally::unit
