// For faults_test.py: so many allocations of one kind under a tag, of which those that fail are
// told by their numbers.
//   faults HOW TAG SIZE COUNT
// Prints a line: the numbers that failed, then "=" and how many did.
#include <atomic>
#include <new>

#include "threads.hpp"

namespace {

tally_tag tag;
size_t size;

// ---- One allocation each. What fails gives nullptr, and ENOMEM where the function sets errno.

template <class F>
void* or_null(F create) {
  try {
    return create();
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return nullptr;
  }
}

void* align_posix() {
  void* p = nullptr;
  errno = 0;
  const int error = posix_memalign(&p, 256, size);
  CHECK(errno == error && (error == 0 || (error == ENOMEM && p == nullptr)));
  return p;
}

// The C library's own calls of malloc.
void* copy_text() {
  static char text[4096];
  CHECK(size < sizeof text);
  memset(text, 'x', size);
  return strdup(text);
}

struct Way {
  const char* name;
  bool in_scope;  // by the tag in force, else by the tag's name
  void* (*allocate)();
};
constexpr Way kWays[] = {
    {"malloc", true, [] { return malloc(size); }},
    {"calloc", true, [] { return calloc(2, size / 2); }},
    {"realloc", true, [] { return realloc(nullptr, size); }},
    {"reallocarray", true, [] { return reallocarray(nullptr, 2, size / 2); }},
    {"aligned_alloc", true, [] { return aligned_alloc(64, size); }},
    {"memalign", true, [] { return memalign(4096, size); }},
    {"posix_memalign", true, align_posix},
    {"valloc", true, [] { return valloc(size); }},
    {"strdup", true, copy_text},
    {"new", true, [] { return or_null([] { return operator new(size); }); }},
    {"new[]", true, [] { return or_null([] { return operator new[](size); }); }},
    {"new_aligned", true,
     [] { return or_null([] { return operator new(size, std::align_val_t(64)); }); }},
    {"new_nothrow", true, [] { return operator new(size, std::nothrow); }},
    {"tally_malloc", false, [] { return tally_malloc(tag, size); }},
    {"tally_calloc", false, [] { return tally_calloc(tag, 2, size / 2); }},
    {"tally_aligned_alloc", false, [] { return tally_aligned_alloc(tag, 128, size); }},
    {"tally_realloc", false, [] { return tally_realloc(tag, nullptr, size); }},
};

void told(int number) { printf("%d ", number); }

int allocate_by(const Way& way, int count) {
  int failed = 0;
  for (int number = 1; number <= count; number++) {
    if (way.in_scope) CHECK(tally_tag_push(tag) == 0);
    errno = 0;
    void* p = way.allocate();
    const int error = errno;
    if (way.in_scope) CHECK(tally_tag_pop() == 0);
    if (p == nullptr) {
      // A nothrow operator owes no errno.
      CHECK(error == ENOMEM || strcmp(way.name, "new_nothrow") == 0);
      told(number), failed++;
    } else {
      CHECK(error == 0);
      CHECK(tally_tag_of(p) == tag);
      memset(p, 1, size);
      free(p);
    }
    // What is not the tag's has no part in it, and is not counted.
    void* other = malloc(size);
    CHECK(other != nullptr);
    free(other);
  }
  return failed;
}

// A block of the tag, allocation 1, that is made to grow, a little beyond what it has room for: in
// place or not, under whatever tag.
int grow(int count) {
  const tally_tag elsewhere = tally_tag_create("elsewhere");
  void* p = tally_malloc(tag, size);
  CHECK(p != nullptr);
  int failed = 0;
  for (int number = 2; number <= count; number++) {
    const size_t had = malloc_usable_size(p);
    fill(p, had, 1);
    CHECK(tally_tag_push(elsewhere) == 0);
    errno = 0;
    void* grown = number % 2 == 0 ? realloc(p, had + 1) : tally_realloc(TALLY_TAG_NONE, p, had + 1);
    const int error = errno;
    CHECK(tally_tag_pop() == 0);
    if (grown == nullptr) {
      CHECK(error == ENOMEM && malloc_usable_size(p) == had && is_filled(p, had, 1));
      told(number), failed++;
    } else {
      CHECK(error == 0);
      CHECK(malloc_usable_size(grown) > had && is_filled(grown, had, 1, had));
      p = grown;
    }
    CHECK(tally_tag_of(p) == tag);
    // What there is room for is not counted, nor is what needs less.
    CHECK(realloc(p, malloc_usable_size(p)) == p);
  }
  for (size_t less = malloc_usable_size(p); less > 1; less /= 2)
    CHECK((p = realloc(p, less)) != nullptr);
  free(p);
  return failed;
}

// A block of another tag that moves to this one.
int take_over(int count) {
  int failed = 0;
  for (int number = 1; number <= count; number++) {
    void* p = malloc(size);
    CHECK(p != nullptr);
    fill(p, size, 1);
    errno = 0;
    void* moved = tally_realloc(tag, p, size);
    if (moved == nullptr) {
      CHECK(errno == ENOMEM && tally_tag_of(p) != tag);
      told(number), failed++;
      moved = p;
    } else {
      CHECK(tally_tag_of(moved) == tag);
    }
    CHECK(is_filled(moved, size, 1));
    free(moved);
  }
  return failed;
}

// Four threads share the tag's numbers.
int on_threads(int count) {
  static std::atomic<int> failed{0};
  auto work = [count] {
    CHECK(tally_tag_push(tag) == 0);
    for (int i = 0; i < count / 4; i++) {
      void* p = malloc(size);
      if (p == nullptr) failed++;
      free(p);
    }
    CHECK(tally_tag_pop() == 0);
  };
  Thread a(work), b(work), c(work), d(work);
  a.join(), b.join(), c.join(), d.join();
  return failed;
}

// operator new asks the handler, and tries again.
int with_handler(int count) {
  static int calls;
  std::set_new_handler([] { calls++; });
  CHECK(tally_tag_push(tag) == 0);
  for (int i = 0; i < count; i++) {
    void* p = operator new(size);
    CHECK(p != nullptr);
    operator delete(p);
  }
  CHECK(tally_tag_pop() == 0);
  return calls;
}

// Nobody named a tag.
int untagged(int count) {
  int failed = 0;
  for (int i = 0; i < count; i++) {
    void* p = malloc(size);
    failed += p == nullptr;
    free(p);
  }
  return failed;
}

int run(const char* how, int count) {
  for (const Way& way : kWays) {
    if (strcmp(how, way.name) == 0) return allocate_by(way, count);
  }
  if (strcmp(how, "grow") == 0) return grow(count);
  if (strcmp(how, "take_over") == 0) return take_over(count);
  if (strcmp(how, "threads") == 0) return on_threads(count);
  if (strcmp(how, "handler") == 0) return with_handler(count);
  CHECK(strcmp(how, "untagged") == 0);
  return untagged(count);
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 5);
  CHECK_LIVE();
  static char buffer[1 << 16];  // so that printf allocates nothing
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  if (strcmp(argv[1], "names") == 0) {
    for (const Way& way : kWays) printf("%s ", way.name);
    return 0;
  }
  tag = tally_tag_create(argv[2]);
  CHECK(tag != TALLY_TAG_NONE);
  size = static_cast<size_t>(atoll(argv[3]));
  const int failed = run(argv[1], atoi(argv[4]));
  printf("= %d\n", failed);
  return 0;
}
