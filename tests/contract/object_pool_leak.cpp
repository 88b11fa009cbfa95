#undef NDEBUG
#include "object_pool_leak.hpp"

#include <tally/pool.hpp>

#include "tally_test.h"

namespace {

struct Mine {  // a type of this file alone: pools of it are compiled here alone
  int value = 0;
};

}  // namespace

void leak_with_asserts() {
  tally::ObjectPool<Mine> pool(tally::Tag(), 10);
  if (pool.construct() == nullptr) abort();
}

void destroy_in_another_with_asserts() {
  tally::ObjectPool<Mine> pool(tally::Tag(), 10), other(tally::Tag(), 10);
  other.destroy(pool.construct());
}
