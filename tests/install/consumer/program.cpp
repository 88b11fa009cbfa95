// program malloc|new|none VERSION: what of this program should be Tally's, and which.
#include <cstdio>
#include <cstring>
#include <string>
#include <tally/arena.hpp>
#include <tally/memory.hpp>
#include <tally/tally.hpp>
#include <vector>

namespace {

bool g_ok = true;

void check(bool ok, const char* what) {
  if (!ok) std::fprintf(stderr, "not so: %s\n", what);
  g_ok = g_ok && ok;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const bool is_here = std::strcmp(argv[1], "none") != 0;
  check(std::strcmp(tally_version(), is_here ? argv[2] : "") == 0, "version");
  const tally::Tag tag = tally::Tag::create("consumer/cxx");
  check(static_cast<bool>(tag), "a tag");
  check(tag.name() == (is_here ? "/consumer/cxx" : "/"), "its name");
  {
    tally::TagScope scope(tag);
    const std::string text(1000, 'x');
    check(tally::Tag::of(text.data()) == (is_here ? tag : tally::Tag(TALLY_TAG_NONE)),
          "the tag of a string");
  }
  std::vector<int, tally::Allocator<int>> numbers(tag);
  for (int i = 0; i < 1000; ++i) numbers.push_back(i);
  check(numbers[999] == 999, "a vector");

  tally::Arena arena(tag);
  {
    tally::Arena::Scope scope(arena);
    for (size_t alignment : {1, 8, 64, 4096}) {
      char* p = static_cast<char*>(arena.alloc(100, alignment));
      check(p != nullptr && reinterpret_cast<uintptr_t>(p) % alignment == 0, "a block of an arena");
      std::memset(p, 1, 100);
    }
  }
  arena.reset();
  return g_ok ? 0 : 1;
}
