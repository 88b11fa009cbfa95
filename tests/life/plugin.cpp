// A plug-in that allocates when it comes, while it is there, and when it goes.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Static {
  std::vector<std::string> strings;
  Static() {
    for (int i = 0; i < 100; i++) strings.push_back(std::string(static_cast<size_t>(i), 'p'));
  }
} state;

thread_local std::string local;

}  // namespace

extern "C" {

void* plugin_allocate(size_t n) {
  local.assign(n, 'l');
  void* p = malloc(n);
  if (p != nullptr) memset(p, 'p', n);
  return p;
}

void plugin_free(void* p) { free(p); }
}
