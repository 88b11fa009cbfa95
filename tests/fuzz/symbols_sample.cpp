// What fuzz_symbols changes: functions in namespaces, classes, templates, one within the other.
namespace shop {
namespace {

struct Shelf {
  long sum = 0;
  [[gnu::always_inline]] inline void put(long item) {
    for (long i = 0; i < item; ++i) sum += i ^ item;
  }
  [[gnu::noinline]] long take() { return sum--; }
};

template <class Item>
[[gnu::noinline]] long fill(Shelf& shelf, Item item) {
  shelf.put(item);
  {
    const long twice = item * 2;
    shelf.put(twice);
  }
  return shelf.take();
}

}  // namespace

long open(long items) {
  Shelf shelf;
  return fill(shelf, items) + fill(shelf, static_cast<short>(items));
}

}  // namespace shop
