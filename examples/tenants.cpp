// A thousand tenants in one process, each with a tag and a hard limit of its own.
//
// One that asks for more than its share is refused, and no other: std::bad_alloc is thrown in the
// work that is done for it. All together are held to less than the sum of their shares, as few use
// theirs up.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iomanip>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kKiB = 1024;
constexpr int kTenants = 1000;
constexpr int kGreedyEvery = 100;
constexpr int kThreads = 4;
constexpr int kRounds = 60;
constexpr uint64_t kShare = 128 * kKiB;
constexpr uint64_t kLimitOfAll = kTenants * kShare / 4 * 3;
constexpr size_t kTexture = 8 * kKiB;  // of device memory, which malloc never sees
constexpr char kAll[] = "/tenants";

tally::Tag make_tag(int number) {
  std::string path = kAll;
  path.append("/").append(std::to_string(number));
  return tally::Tag::create(path.c_str());
}

class Tenant {
 public:
  Tenant(int number, bool greedy) : tag_(make_tag(number)), greedy_(greedy) {
    is_limited_ = tag_.limit(TALLY_LIMIT_NONE, kShare);
    texture_ = tally::Charge(tag_, kTexture);
  }

  bool is_set_up() const { return is_limited_ && texture_; }
  bool is_greedy() const { return greedy_; }
  int refused() const { return refused_; }

  // Some documents come, and the oldest go; the greedy keep all they can get.
  void serve() {
    for (int i = 0; i < (greedy_ ? 20 : 2); ++i) {
      try {
        tally::TagScope scope(tag_);
        documents_.emplace_back(300 + (i + documents_.size()) % 5 * 200, 'd');
      } catch (const std::bad_alloc&) {
        ++refused_;
      }
    }
    while (!greedy_ && documents_.size() > 20) documents_.pop_front();
  }

 private:
  tally::Tag tag_;
  bool greedy_;
  bool is_limited_;
  tally::Charge texture_;
  std::deque<std::string> documents_;
  int refused_ = 0;
};

// All tenants, each served by one thread.
void serve_all(std::vector<Tenant>& tenants) {
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([&tenants, n] {
      for (int round = 0; round < kRounds; ++round) {
        for (size_t i = n; i < tenants.size(); i += kThreads) tenants[i].serve();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

void print_row(const tally_stats_t& row) {
  std::cout << std::left << std::setw(14) << row.name << std::right;
  for (uint64_t n : {row.total.footprint_bytes / kKiB, row.total.peak_footprint_bytes / kKiB,
                     row.hard_limit_bytes / kKiB, row.refused_count}) {
    std::cout << std::setw(10) << n;
  }
  std::cout << '\n';
}

// One look at all tags. It takes no memory of theirs.
bool report(const std::vector<Tenant>& tenants) {
  tally_snapshot_t* snapshot = tally_snapshot();
  if (snapshot == nullptr) return false;
  // The rows are in the order of their paths: what is above comes first.
  std::vector<tally_stats_t> rows;
  tally_stats_t all = {};
  for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
    const tally_stats_t& row = snapshot->tags[i];
    if (row.name == std::string_view(kAll)) all = row;
    if (all.id != 0 && row.parent == all.id) rows.push_back(row);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const tally_stats_t& a, const tally_stats_t& b) {
    return a.total.footprint_bytes > b.total.footprint_bytes;
  });
  std::cout << "KiB                holds      peak     limit   refused\n";
  for (size_t i = 0; i < std::min<size_t>(rows.size(), 5); ++i) print_row(rows[i]);
  print_row(all);

  bool ok = holds(rows.size() == tenants.size(), "each tenant has a tag");
  for (const tally_stats_t& row : rows) {
    ok &= holds(row.total.peak_footprint_bytes <= kShare, row.name);
  }
  ok &= holds(all.total.peak_footprint_bytes <= kLimitOfAll, "all together are within their limit");
  ok &= holds(all.refused_count == 0, "none is refused for what others hold");
  for (const Tenant& tenant : tenants) {
    ok &= holds(tenant.is_greedy() == (tenant.refused() != 0), "the greedy are refused, no others");
  }
  tally_snapshot_free(snapshot);  // and with it the names
  return ok;
}

}  // namespace

int main() {
  if (!tally::Tag::create(kAll).limit(TALLY_LIMIT_NONE, kLimitOfAll)) return 1;
  std::vector<Tenant> tenants;
  tenants.reserve(kTenants);
  for (int i = 0; i < kTenants; ++i) {
    tenants.emplace_back(i, i % kGreedyEvery == 0);
    if (!holds(tenants.back().is_set_up(), "a tenant is set up")) return 1;
  }
  serve_all(tenants);
  int refused = 0;
  for (const Tenant& tenant : tenants) refused += tenant.refused();
  std::cout << kTenants << " tenants, " << kTenants / kGreedyEvery << " of them greedy: " << refused
            << " documents were refused\n";
  return report(tenants) ? 0 : 1;
}
