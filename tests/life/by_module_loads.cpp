// TALLY_TAG_BY=module where libraries come and go: two of the same code take each other's place,
// and each block is still charged to the one that asked for it. by_module_loads A.so B.so
#include <atomic>

#include "caller.hpp"
#include "threads.hpp"

namespace {

constexpr const char* kTags[] = {"/lib/libcaller_a.so.1", "/lib/caller_b.so"};
char** paths;

void use(const Caller& caller, const char* tag) {
  for (size_t n : {16, 100, 5000, 100000}) {
    void* p = caller.allocate(n);
    CHECK_TAG(p, tag);
    free(p);
  }
}

// One after the other on one thread, so that they take the same addresses.
unsigned alternate() {
  const void* at[2] = {};
  unsigned same = 0;
  for (unsigned i = 0; i < 200; ++i) {
    Caller caller(paths[i % 2]);
    use(caller, kTags[i % 2]);
    at[i % 2] = reinterpret_cast<const void*>(caller.allocate);
    if (at[0] == at[1]) ++same;
    caller.close();
  }
  return same;
}

void load_and_use(uint64_t seed) {
  Random random(seed);
  for (unsigned i = 0; i < 400; ++i) {
    unsigned which = static_cast<unsigned>(random.below(2));
    Caller caller(paths[which]);
    use(caller, kTags[which]);
    if (random.below(4) == 0) {
      // A scope does not hide from us what is loaded within it.
      unsigned other = 1 - which;
      CHECK(tally_tag_push(tally_tag_create("scope")) == 0);
      Caller second(paths[other]);
      use(second, "/scope");
      CHECK(tally_tag_pop() == 0);
      use(second, kTags[other]);
      second.close();
    }
    caller.close();
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc == 3);
  paths = argv + 1;
  CHECK_OP(alternate(), >, 100);
  auto work = [] {
    static std::atomic<uint64_t> seed{0};
    load_and_use(seed.fetch_add(1));
  };
  Thread a(work), b(work), c(work), d(work);
  a.join(), b.join(), c.join(), d.join();
  // A thread that ran none of it while it was loaded anew knows of it.
  CHECK_OP(alternate(), >, 100);
  for (const char* tag : kTags) CHECK_OP(stats_of(tally_tag_find(tag)).own.live_bytes, ==, 0);
  return 0;
}
