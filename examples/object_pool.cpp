// A book of orders, where objects of one type come and go by the million: an object pool.
//
// Orders live in a tally::ObjectPool: a new one is a pop from a list, and the heap is asked only
// for whole blocks of them. The pool is bounded, so that a flood of orders is turned away instead
// of filling the memory; its blocks are under the tag /book, so that they show in every report; and
// after the rush it gives back what it does not need.
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <random>
#include <tally/pool.hpp>
#include <utility>

namespace {

constexpr size_t kMostOrders = 50'000;
constexpr uint64_t kEvents = 1'000'000;
constexpr size_t kAfter = 100;  // orders that stay after the rush

struct Order {
  Order(uint64_t i, int p, int q) : id(i), price(p), quantity(q) {}
  uint64_t id;
  int price, quantity;
  Order* next = nullptr;  // of the same price
};

class Book {
 public:
  explicit Book(tally::Tag tag) : orders_(tag, kMostOrders) {}
  ~Book() {
    while (take_best() != 0) {
    }
  }

  // False: the book is full.
  bool add(uint64_t id, int price, int quantity) {
    Order* order = orders_.construct(id, price, quantity);
    if (order == nullptr) return false;
    order->next = std::exchange(levels_[price], order);
    return true;
  }

  // Fulfils the last order of the best price, and returns its quantity; 0: there is none.
  int take_best() {
    if (levels_.empty()) return 0;
    const auto best = levels_.begin();
    Order* order = best->second;
    if ((best->second = order->next) == nullptr) levels_.erase(best);
    const int quantity = order->quantity;
    orders_.destroy(order);
    return quantity;
  }

  size_t trim() { return orders_.trim(); }
  tally::ObjectPoolStats stats() const { return orders_.stats(); }

 private:
  tally::ObjectPool<Order> orders_;  // of one thread; tally::ObjectPool<Order, std::mutex> of any
  std::map<int, Order*> levels_;
};

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag tag = tally::Tag::create("/book");
  uint64_t added = 0, refused = 0, taken = 0;
  tally::ObjectPoolStats rush, quiet;
  size_t given;
  {
    Book book(tag);
    std::mt19937 random(1);
    for (uint64_t event = 0; event < kEvents; ++event) {
      if (random() % 3 != 0) {  // more come than are fulfilled
        ++(book.add(event, static_cast<int>(random() % 100), 1) ? added : refused);
      } else {
        taken += book.take_best() != 0;
      }
    }
    rush = book.stats();
    for (size_t live = rush.live; live > kAfter; --live) taken += book.take_best() != 0;
    given = book.trim();
    quiet = book.stats();
  }

  const tally_counts heap = tag.stats().own;
  std::cout << added << " orders taken in, " << refused << " refused, at most " << rush.high_water
            << " at a time\n"
            << "the heap was asked " << heap.alloc_count << " times for them\n"
            << "after the rush " << given / 1024 << " KiB of " << rush.bytes / 1024
            << " KiB went back; " << quiet.live << " orders stayed\n";

  bool ok =
      holds(rush.high_water == kMostOrders && refused != 0, "the bound is reached, and holds");
  ok &= holds(added - taken == quiet.live, "no order is lost");
  ok &= holds(heap.alloc_count * 100 < added, "hardly an order asks the heap");
  ok &= holds(given != 0 && quiet.bytes + given == rush.bytes, "what is not needed goes back");
  ok &= holds(heap.live_blocks == 0 && heap.live_bytes == 0, "all of it goes back at the end");
  return ok ? 0 : 1;
}
