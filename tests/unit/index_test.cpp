#include "base/index.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "unit.h"

namespace tally::unit {
namespace {

using core::Index;

// Against a map, with hashes of few values and of many.
class IndexTest : public testing::TestWithParam<uint32_t> {};

TEST_P(IndexTest, FindsWhatIsThereAndNothingElse) {
  constexpr size_t kMost = 1024;
  std::vector<uint32_t> memory(Index::slots_for(kMost));
  std::vector<uint64_t> keys(kMost);
  Index index;
  index.reset(memory.data(), memory.size());
  auto hash_of_key = [](uint64_t key) {
    return static_cast<uint32_t>(key * 2654435761) % GetParam();
  };
  auto hash_of = [&](uint32_t entry) { return hash_of_key(keys[entry]); };
  auto find = [&](uint64_t key) {
    return index.find(hash_of_key(key), [&](uint32_t entry) { return keys[entry] == key; });
  };
  Random random(GetParam());
  std::map<uint64_t, uint32_t> model;
  std::vector<uint32_t> unused;
  for (uint32_t i = 0; i < kMost; ++i) unused.push_back(i);
  for (int step = 0; step < 20000; ++step) {
    uint64_t key = random.below(1500);
    auto known = model.find(key);
    ASSERT_EQ(find(key), known == model.end() ? Index::kNone : known->second);
    if (known != model.end()) {
      index.remove(known->second, hash_of);
      unused.push_back(known->second);
      model.erase(known);
    } else if (!unused.empty()) {
      uint32_t entry = unused.back();
      unused.pop_back();
      keys[entry] = key;
      index.add(entry, hash_of);
      model[key] = entry;
    }
  }
  for (auto [key, entry] : model) ASSERT_EQ(find(key), entry);
}

INSTANTIATE_TEST_SUITE_P(Hashes, IndexTest, testing::Values(1, 7, 300, 1U << 31));

}  // namespace
}  // namespace tally::unit
