// Limits under stress: threads allocate, free and charge all over a tree of tags, some as
// callbacks, while others change the limits, and one looks whether any tag ever holds more than it
// may.
//
//   limits [--seed N] [--operations N] [--threads N]
#include <tally/tally.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "lanes.hpp"

namespace {

constexpr size_t kTags = 100;
constexpr uint64_t KiB = 1024, MiB = 1024 * KiB;

[[noreturn]] void fail(const char* what, uint64_t a, uint64_t b) {
  fprintf(stderr, "limits: %s: %llu, %llu\n", what, static_cast<unsigned long long>(a),
          static_cast<unsigned long long>(b));
  abort();
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t below(uint64_t n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % n;
  }

 private:
  uint64_t state_;
};

// The tag's limit is one word here, so that who looks sees what the tag may hold: a limit that was
// lowered below what is held bounds it by that. One thread changes it.
struct Node {
  tally_tag tag;
  std::atomic<uint64_t> bound{TALLY_LIMIT_NONE};  // never more than this may be held
  std::atomic<uint64_t> changes{0};               // odd while it changes
  std::atomic<uint64_t> calls{0};
};
std::array<Node, kTags> g_nodes;
std::atomic<bool> g_stop{false};
std::atomic<uint64_t> g_refused{0}, g_served{0};

tally_stats_t stats_of(tally_tag tag) {
  tally_stats_t stats = {};
  stats.size = sizeof stats;
  if (tally_stats(tag, &stats) != 0) fail("no statistics", tag, static_cast<uint64_t>(errno));
  return stats;
}

uint64_t held(const Node& node) { return stats_of(node.tag).total.footprint_bytes; }

void make_tree() {
  for (size_t i = 0; i < kTags; ++i) {
    // Ten below the root, nine below each of those.
    std::string path = "/s" + std::to_string(i % 10);
    if (i >= 10) path += "/t" + std::to_string(i / 10);
    g_nodes[i].tag = tally_tag_create(path.c_str());
    if (g_nodes[i].tag == TALLY_TAG_NONE) fail("no tag", i, static_cast<uint64_t>(errno));
  }
}

void on_pressure(tally_tag /*tag*/, int level, void* arg) {
  static_cast<Node*>(arg)->calls.fetch_add(1, std::memory_order_relaxed);
  thread_local bool inside = false;
  if (inside) fail("a callback within a callback", static_cast<uint64_t>(level), 0);
  inside = true;
  void* p = tally_malloc(g_nodes[0].tag, 100);
  tally_free(p);
  inside = false;
}

// ---- Who allocates.

struct Block {
  unsigned char* p;
  size_t size;
};

void release(std::vector<Block>* blocks, size_t i) {
  Block block = (*blocks)[i];
  (*blocks)[i] = blocks->back();
  blocks->pop_back();
  if (block.p[0] != block.p[block.size - 1]) fail("a block was written to", block.p[0], block.size);
  tally_free(block.p);
}

size_t some_size(Random& random) {
  switch (random.below(20)) {
    case 0:
      return 1 + random.below(600 * KiB);
    case 1:
    case 2:
      return 1 + random.below(40 * KiB);
    default:
      return 1 + random.below(1500);
  }
}

void work(unsigned number, uint64_t seed, uint64_t operations) {
  Random random(seed * 1000 + number);
  std::vector<Block> blocks;
  std::vector<uint64_t> charged(kTags);
  for (uint64_t i = 0; i < operations; ++i) {
    size_t at = random.below(kTags);
    Node& node = g_nodes[at];
    uint64_t step = random.below(100);
    if (step < 50) {
      size_t size = some_size(random);
      auto* p = static_cast<unsigned char*>(tally_malloc(node.tag, size));
      if (p == nullptr) {
        g_refused.fetch_add(1, std::memory_order_relaxed);
        // As a program does that is out of memory: it gives up something.
        for (int j = 0; j < 8 && !blocks.empty(); ++j)
          release(&blocks, random.below(blocks.size()));
        continue;
      }
      g_served.fetch_add(1, std::memory_order_relaxed);
      p[0] = p[size - 1] = static_cast<unsigned char>(i);
      blocks.push_back({p, size});
    } else if (step < 94) {
      if (!blocks.empty()) release(&blocks, random.below(blocks.size()));
    } else if (step < 97) {
      uint64_t bytes = 1 + random.below(50000);
      if (tally_charge(node.tag, bytes) == 0) charged[at] += bytes;
    } else if (charged[at] != 0) {
      if (tally_uncharge(node.tag, charged[at]) != 0) fail("uncharge", charged[at], 0);
      charged[at] = 0;
    }
  }
  while (!blocks.empty()) release(&blocks, blocks.size() - 1);
  for (size_t i = 0; i < kTags; ++i) {
    if (tally_uncharge(g_nodes[i].tag, charged[i]) != 0) fail("uncharge at the end", charged[i], i);
  }
}

// ---- Who changes limits, and who looks.

void change_limits(uint64_t seed) {
  Random random(seed + 77);
  while (!g_stop.load()) {
    Node& node = g_nodes[random.below(kTags)];
    bool is_leaf = &node >= &g_nodes[10];
    uint64_t hard = (is_leaf ? 64 * KiB : 512 * KiB) << random.below(5);
    uint64_t soft = random.below(3) == 0 ? TALLY_LIMIT_NONE : hard / 2;
    tally_policy policy = random.below(4) == 0 ? TALLY_POLICY_WAIT(1) : TALLY_POLICY_FAIL;
    node.changes.fetch_add(1, std::memory_order_seq_cst);
    if (tally_limit_set(node.tag, soft, hard, policy) != 0) fail("limit", hard, soft);
    uint64_t now = held(node);
    node.bound.store(now > hard ? now : hard, std::memory_order_relaxed);
    node.changes.fetch_add(1, std::memory_order_seq_cst);
    if (random.below(8) == 0) {
      tally_off_pressure(node.tag, on_pressure, &node);
      tally_on_pressure(node.tag, on_pressure, &node, nullptr);
    }
  }
}

void look() {
  while (!g_stop.load()) {
    for (const Node& node : g_nodes) {
      uint64_t before = node.changes.load(std::memory_order_seq_cst);
      uint64_t bound = node.bound.load(std::memory_order_relaxed);
      uint64_t now = held(node);
      bool is_same = node.changes.load(std::memory_order_seq_cst) == before && before % 2 == 0;
      if (is_same && now > bound) fail("a tag holds more than its limit", now, bound);
    }
  }
}

// Everything is back: what is held is exactly what the slabs that are kept take, at every level.
void check_the_end() {
  tally_trim();
  uint64_t sum = 0;
  for (size_t i = 0; i < kTags; ++i) {
    tally_stats_t stats = stats_of(g_nodes[i].tag);
    if (stats.total.live_bytes != 0) fail("live at the end", stats.total.live_bytes, i);
    if (stats.total.charged_bytes != 0) fail("charged at the end", stats.total.charged_bytes, i);
    sum += stats.own.footprint_bytes;
    uint64_t below = stats.own.footprint_bytes;
    for (size_t j = i < 10 ? i + 10 : kTags; j < kTags; j += 10) {
      below += stats_of(g_nodes[j].tag).own.footprint_bytes;
    }
    if (stats.total.footprint_bytes != below)
      fail("the tree does not add up", stats.total.footprint_bytes, below);
  }
  tally_stats_t root = stats_of(TALLY_TAG_ROOT), own = stats_of(tally_tag_find("/tally"));
  sum += root.own.footprint_bytes + own.total.footprint_bytes;
  if (root.total.footprint_bytes != sum)
    fail("the root does not add up", root.total.footprint_bytes, sum);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argument(argc, argv, "--seed", 1);
  const uint64_t operations = argument(argc, argv, "--operations", 100000);
  const auto count = static_cast<unsigned>(argument(argc, argv, "--threads", 8));
  expect_backend();
  make_tree();
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < count; ++i) workers.emplace_back(work, i, seed, operations);
  std::thread changer(change_limits, seed), looker(look);
  for (auto& worker : workers) worker.join();
  g_stop.store(true);
  changer.join();
  looker.join();
  uint64_t calls = 0;
  for (const Node& node : g_nodes) calls += node.calls.load();
  check_the_end();
  printf("%llu served, %llu refused, %llu callbacks\n",
         static_cast<unsigned long long>(g_served.load()),
         static_cast<unsigned long long>(g_refused.load()), static_cast<unsigned long long>(calls));
  if (g_refused.load() == 0 || g_served.load() == 0 || calls == 0)
    fail("nothing was tested", calls, 0);
  return 0;
}
