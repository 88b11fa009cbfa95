// A program that is compiled with AddressSanitizer, linked with a Tally that is not: what an arena
// took back is poisoned all the same. Ends with AddressSanitizer's report.
#include <cstdio>
#include <cstring>
#include <string>
#include <tally/arena.hpp>

int main() {
  tally::Arena arena(tally::Tag::create("/asan"));
  for (int i = 0; i < 1000; ++i) {
    const tally::Arena::Scope scope(arena);
    std::pmr::string text(static_cast<size_t>(i), 'x', &arena);
    std::pmr::string copy(text, &arena);
    char* raw = static_cast<char*>(arena.alloc(static_cast<size_t>(i) + 1, 1));
    if (raw == nullptr || copy != text) return 1;
    memcpy(raw, text.c_str(), text.size() + 1);
  }
  volatile int* number = arena.make<int>(7);
  arena.reset();
  fputs("so far so good\n", stderr);
  return *number;
}
