// A program that leaks in one place, known by its line, and is known to free elsewhere. Prints
// "ready" then, and ends with its input.
//
// usage: leaking [MIB] [quick]
//   MIB    that leak, 64 if left out
//   quick  ends by _exit, past its exit handlers
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace shop {

constexpr size_t kOrderBytes = 5000;

class Orders {
 public:
  // Inlined where it is called; the tests look for the line of its allocation.
  [[gnu::always_inline]] char* make() {
    char* order = new char[kOrderBytes];  // the leak
    memset(order, 1, kOrderBytes);
    return order;
  }
  std::vector<char*> all;
};

[[gnu::noinline]] void take_orders(Orders& orders, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    orders.all[i] = orders.make();
  }
  asm volatile("" ::: "memory");  // no tail call
}

// Nothing of this is left.
template <class Item>
[[gnu::noinline]] size_t serve(size_t count) {
  size_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    auto item = std::make_unique<Item[]>(kOrderBytes);
    memset(item.get(), 2, kOrderBytes);
    sum += static_cast<size_t>(item[i % kOrderBytes]);
  }
  return sum;
}

}  // namespace shop

int main(int argc, char** argv) {
  const size_t mib = argc > 1 ? strtoul(argv[1], nullptr, 10) : 64;
  const size_t count = (mib << 20) / shop::kOrderBytes;
  auto* orders = new shop::Orders;
  orders->all.resize(count);
  shop::take_orders(*orders, count);
  const size_t sum = shop::serve<char>(count);
  printf("ready %zu\n", sum);
  fflush(stdout);
  while (getchar() != EOF) {
  }
  if (argc > 2 && std::string_view(argv[2]) == "quick") _exit(0);
  return 0;
}
