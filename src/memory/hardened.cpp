#include "memory/hardened.h"

#include <atomic>

#include "os/os.h"

namespace tally::core::hardened {

constinit Secret secret;

namespace {
constinit std::atomic<uint64_t> g_drawn{0};
}  // namespace

void start() {
  secret.link = os::random_word();
  secret.seal = os::random_word();
}

uint64_t draw() {
  // That two threads now and then draw the same does no harm.
  uint64_t x = g_drawn.load(std::memory_order_relaxed) + kFactor;
  g_drawn.store(x, std::memory_order_relaxed);
  x ^= secret.seal;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31 ^ secret.link;
}

}  // namespace tally::core::hardened
