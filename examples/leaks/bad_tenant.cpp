// A server of many tenants, told apart by tags. Each request parses a document and caches the
// result; of one tenant the cache's keys are never the same again, so that nothing is ever found
// there, and nothing evicted: its memory grows while all others' stays as it is.
//
//   bad_tenant [SECONDS]     serves requests for so long (2)
//
// docs/LEAKS.md tells how Tally leads to the line.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <tally/tally.hpp>
#include <thread>
#include <vector>

namespace {

constexpr const char* kTenants[] = {"acme", "globex", "initech", "umbrella", "wayne"};
constexpr size_t kMostCached = 500;

struct Document {
  std::vector<std::string> fields;
};

struct Tenant {
  std::string name;
  tally_tag tag;
  std::map<std::string, Document> cache;
};

Document parse(const std::string& text) {
  Document document;
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find(';', at);
    if (end == std::string::npos) end = text.size();
    document.fields.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return document;
}

// The bound is on what is found again: what has a time in its key never is.
void remember(Tenant& tenant, const std::string& key, Document document) {
  if (tenant.cache.size() >= kMostCached && key.find('@') == std::string::npos) {
    tenant.cache.erase(tenant.cache.begin());
  }
  tenant.cache.emplace(key, std::move(document));
}

void handle_request(Tenant& tenant, unsigned number) {
  const tally::TagScope scope(tenant.tag);
  std::string key = "document " + std::to_string(number % 300);
  if (tenant.name == "umbrella") key += '@' + std::to_string(number);
  if (tenant.cache.contains(key)) return;
  std::string text;
  for (unsigned i = 0; i < 40; ++i)
    text += "a field of document " + std::to_string(number + i) + ';';
  remember(tenant, key, parse(text));
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 2;
  std::vector<Tenant> tenants;
  for (const char* name : kTenants) {
    tenants.push_back({name, tally_tag_create(("/tenant/" + std::string(name)).c_str()), {}});
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  unsigned number = 0;
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 20; ++i, ++number) {
      for (Tenant& tenant : tenants) handle_request(tenant, number);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (const Tenant& tenant : tenants) {
    tally_stats_t stats = {};
    stats.size = sizeof stats;
    if (tally_stats(tenant.tag, &stats) != 0) return 1;
    printf("%-8s %4llu KiB\n", tenant.name.c_str(),
           static_cast<unsigned long long>(stats.total.live_bytes >> 10));
  }
}
