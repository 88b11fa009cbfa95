// libtally_api.a: the C API for programs that are linked without an allocator. Where libtally.so is
// preloaded, or linked to by somebody else, each function calls on to it. Where it is not the
// program works as without Tally: there is one tag, the root, of whatever name; blocks and arenas
// are libc's; nothing is limited; and what asks for figures or for a limit fails with ENOSYS.
//
// The definitions are weak, so that who links Tally's own archive too gets those.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "tally/tally.h"

namespace {

// What only the library defines, and programs with Tally inside; these export it for this
// reference.
extern "C" __attribute__((weak)) const char tally_api_anchor;

// Where Tally's functions are looked up: in the object that has them, as another copy of this file
// may come before it. nullptr: there is none.
void* open_library() {
  const void* anchor = &tally_api_anchor;
  if (anchor == nullptr) anchor = dlsym(RTLD_DEFAULT, "tally_api_anchor");
  Dl_info where;
  void* library = nullptr;
  if (anchor != nullptr && dladdr(anchor, &where) != 0) {
    library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) library = dlopen(nullptr, RTLD_LAZY);  // it is the program itself
  }
  dlerror();  // what was not found is nobody's business
  return library;
}

// Decided once for all of the functions: blocks and arenas of one kind are unknown to the other.
std::atomic<void*> g_library{nullptr};
char g_none;

void* find_in_library(const char* name) {
  void* library = g_library.load(std::memory_order_acquire);
  if (library == nullptr) {
    library = open_library();
    if (library == nullptr) library = &g_none;
    g_library.store(library, std::memory_order_release);
  }
  return library == &g_none ? nullptr : dlsym(library, name);
}

template <class Function>
class Target {
 public:
  constexpr Target(const char* name, Function* absent) : name_(name), absent_(absent) {}
  Function* get() {
    Function* found = found_.load(std::memory_order_relaxed);
    return __builtin_expect(found != nullptr, 1) ? found : find();
  }

 private:
  __attribute__((noinline, cold)) Function* find() {
    const int error = errno;
    void* there = find_in_library(name_);
    Function* found = there != nullptr ? reinterpret_cast<Function*>(there) : absent_;
    found_.store(found, std::memory_order_relaxed);
    errno = error;
    return found;
  }

  const char* name_;
  Function* absent_;
  std::atomic<Function*> found_{nullptr};
};

// ---- Arenas where there is no Tally: every block is libc's, behind a head that knows the one
// before. The cursor and the end stay equal, so that each allocation comes here.

struct alignas(16) Loose {
  Loose* before;
  void* start;      // what libc gave
  tally_mark mark;  // TALLY_MARK_NONE: a block
};

struct LooseArena : tally_arena {
  Loose* last;
};

std::atomic<tally_mark> g_marks{TALLY_MARK_NONE};

LooseArena* loose(tally_arena* arena) { return static_cast<LooseArena*>(arena); }

bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

void* allocate_aligned(size_t alignment, size_t size) {
  void* p = nullptr;
  const int error = is_power_of_two(alignment)
                        ? posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, size)
                        : EINVAL;
  if (error != 0) errno = error;
  return error == 0 ? p : nullptr;
}

Loose* add_to(LooseArena* arena, size_t size, size_t alignment, tally_mark mark) {
  if (is_power_of_two(alignment) && alignment < alignof(Loose)) alignment = alignof(Loose);
  // So that the block behind it is aligned.
  const size_t head = alignment < sizeof(Loose) ? sizeof(Loose) : alignment;
  if (size > PTRDIFF_MAX / 2 || head > PTRDIFF_MAX / 2) {
    errno = ENOMEM;
    return nullptr;
  }
  void* start = allocate_aligned(alignment, head + size);
  if (start == nullptr) return nullptr;
  auto* block =
      new (static_cast<char*>(start) + head - sizeof(Loose)) Loose{arena->last, start, mark};
  arena->last = block;
  return block;
}

// All that came after `last`.
void drop_to(LooseArena* arena, Loose* last) {
  while (arena->last != last) {
    Loose* block = arena->last;
    arena->last = block->before;
    free(block->start);
  }
}

int fail(int error) {
  errno = error;
  return -1;
}

}  // namespace

// ---- The functions where there is no Tally.

namespace absent {

const char* tally_version() { return ""; }

tally_tag tally_tag_create(const char* path) {
  if (path == nullptr) errno = EINVAL;
  return path == nullptr ? TALLY_TAG_NONE : TALLY_TAG_ROOT;
}
tally_tag tally_tag_find(const char* path) { return tally_tag_create(path); }
int tally_tag_retire(tally_tag) { return 0; }
size_t tally_tag_name(tally_tag tag, char* buf, size_t n) {
  if (tag != TALLY_TAG_ROOT || (buf == nullptr && n != 0)) {
    errno = EINVAL;
    return 0;
  }
  if (n > 1) *buf++ = '/';
  if (n > 0) *buf = 0;
  return 1;
}
int tally_tag_push(tally_tag tag) { return tag == TALLY_TAG_ROOT ? 0 : fail(EINVAL); }
int tally_tag_pop() { return 0; }
tally_tag tally_tag_current() { return TALLY_TAG_ROOT; }
tally_tag tally_tag_of(const void*) {
  errno = EINVAL;
  return TALLY_TAG_NONE;
}

void* tally_malloc(tally_tag, size_t n) { return malloc(n); }
void* tally_calloc(tally_tag, size_t count, size_t n) { return calloc(count, n); }
void* tally_aligned_alloc(tally_tag, size_t alignment, size_t n) {
  return allocate_aligned(alignment, n);
}
void* tally_realloc(tally_tag, void* p, size_t n) { return realloc(p, n); }
void tally_free(void* p) { free(p); }
size_t tally_usable_size(const void* p) { return malloc_usable_size(const_cast<void*>(p)); }
int tally_trim() {
#ifdef __GLIBC__
  return malloc_trim(0);
#else
  return 0;
#endif
}

int tally_limit_set(tally_tag, uint64_t soft, uint64_t hard, tally_policy) {
  return soft == TALLY_LIMIT_NONE && hard == TALLY_LIMIT_NONE ? 0 : fail(ENOSYS);
}
int tally_limit_get(tally_tag, uint64_t* soft, uint64_t* hard, tally_policy* policy) {
  if (soft != nullptr) *soft = TALLY_LIMIT_NONE;
  if (hard != nullptr) *hard = TALLY_LIMIT_NONE;
  if (policy != nullptr) *policy = TALLY_POLICY_FAIL;
  return 0;
}
int tally_pressure(tally_tag) { return TALLY_PRESSURE_NORMAL; }
int tally_on_pressure(tally_tag, tally_pressure_fn, void*, const tally_pressure_options*) {
  return 0;
}
int tally_off_pressure(tally_tag, tally_pressure_fn, void*) { return 0; }
int tally_charge(tally_tag, size_t) { return 0; }
int tally_uncharge(tally_tag, size_t) { return 0; }

int tally_stats(tally_tag, tally_stats_t*) { return fail(ENOSYS); }
tally_snapshot_t* tally_snapshot() {
  errno = ENOSYS;
  return nullptr;
}
void tally_snapshot_free(tally_snapshot_t*) {}
size_t tally_snapshot_json(char*, size_t) {
  errno = ENOSYS;
  return 0;
}
size_t tally_snapshot_text(char* buf, size_t n) { return tally_snapshot_json(buf, n); }
int tally_snapshot_json_fd(int) { return fail(ENOSYS); }
int tally_snapshot_text_fd(int) { return fail(ENOSYS); }

tally_arena* tally_arena_create(tally_tag, const tally_arena_options* options) {
  if (options != nullptr && options->size < sizeof *options) {
    errno = EINVAL;
    return nullptr;
  }
  return static_cast<LooseArena*>(calloc(1, sizeof(LooseArena)));
}
void tally_arena_destroy(tally_arena* arena) {
  if (arena != nullptr) drop_to(loose(arena), nullptr);
  free(arena);
}
void* tally_arena_alloc_slow(tally_arena* arena, size_t size, size_t alignment) {
  Loose* block = add_to(loose(arena), size, alignment, TALLY_MARK_NONE);
  return block == nullptr ? nullptr : block + 1;
}
tally_mark tally_arena_mark(tally_arena* arena) {
  tally_mark mark = g_marks.fetch_add(1, std::memory_order_relaxed) + 1;
  return add_to(loose(arena), 0, alignof(Loose), mark) == nullptr ? TALLY_MARK_NONE : mark;
}
int tally_arena_rewind(tally_arena* arena, tally_mark mark) {
  Loose* block = loose(arena)->last;
  while (block != nullptr && block->mark != mark) block = block->before;
  if (block == nullptr || mark == TALLY_MARK_NONE) return fail(EINVAL);
  drop_to(loose(arena), block);
  return 0;
}
void tally_arena_reset(tally_arena* arena) { drop_to(loose(arena), nullptr); }
int tally_arena_stats(const tally_arena*, tally_arena_stats_t*) { return fail(ENOSYS); }

}  // namespace absent

// ---- The functions.

// TALLY_FORWARD(name, (parameters), (arguments))
#define TALLY_FORWARD(name, parameters, arguments)                                          \
  extern "C" __attribute__((weak)) auto name parameters->decltype(absent::name arguments) { \
    static constinit Target<decltype(absent::name)> target(#name, absent::name);            \
    return target.get() arguments;                                                          \
  }

TALLY_FORWARD(tally_version, (), ())
TALLY_FORWARD(tally_tag_create, (const char* path), (path))
TALLY_FORWARD(tally_tag_find, (const char* path), (path))
TALLY_FORWARD(tally_tag_retire, (tally_tag tag), (tag))
TALLY_FORWARD(tally_tag_name, (tally_tag tag, char* buf, size_t n), (tag, buf, n))
TALLY_FORWARD(tally_tag_push, (tally_tag tag), (tag))
TALLY_FORWARD(tally_tag_pop, (), ())
TALLY_FORWARD(tally_tag_current, (), ())
TALLY_FORWARD(tally_tag_of, (const void* p), (p))
TALLY_FORWARD(tally_malloc, (tally_tag tag, size_t size), (tag, size))
TALLY_FORWARD(tally_calloc, (tally_tag tag, size_t count, size_t size), (tag, count, size))
TALLY_FORWARD(tally_aligned_alloc, (tally_tag tag, size_t alignment, size_t size),
              (tag, alignment, size))
TALLY_FORWARD(tally_realloc, (tally_tag tag, void* p, size_t size), (tag, p, size))
TALLY_FORWARD(tally_free, (void* p), (p))
TALLY_FORWARD(tally_usable_size, (const void* p), (p))
TALLY_FORWARD(tally_trim, (), ())
TALLY_FORWARD(tally_limit_set, (tally_tag tag, uint64_t soft, uint64_t hard, tally_policy policy),
              (tag, soft, hard, policy))
TALLY_FORWARD(tally_limit_get,
              (tally_tag tag, uint64_t* soft, uint64_t* hard, tally_policy* policy),
              (tag, soft, hard, policy))
TALLY_FORWARD(tally_pressure, (tally_tag tag), (tag))
TALLY_FORWARD(tally_on_pressure,
              (tally_tag tag, tally_pressure_fn fn, void* arg,
               const tally_pressure_options* options),
              (tag, fn, arg, options))
TALLY_FORWARD(tally_off_pressure, (tally_tag tag, tally_pressure_fn fn, void* arg), (tag, fn, arg))
TALLY_FORWARD(tally_charge, (tally_tag tag, size_t bytes), (tag, bytes))
TALLY_FORWARD(tally_uncharge, (tally_tag tag, size_t bytes), (tag, bytes))
TALLY_FORWARD(tally_stats, (tally_tag tag, tally_stats_t* stats), (tag, stats))
TALLY_FORWARD(tally_snapshot, (), ())
TALLY_FORWARD(tally_snapshot_free, (tally_snapshot_t * snapshot), (snapshot))
TALLY_FORWARD(tally_snapshot_json, (char* buf, size_t n), (buf, n))
TALLY_FORWARD(tally_snapshot_text, (char* buf, size_t n), (buf, n))
TALLY_FORWARD(tally_snapshot_json_fd, (int fd), (fd))
TALLY_FORWARD(tally_snapshot_text_fd, (int fd), (fd))
TALLY_FORWARD(tally_arena_create, (tally_tag tag, const tally_arena_options* options),
              (tag, options))
TALLY_FORWARD(tally_arena_destroy, (tally_arena * arena), (arena))
TALLY_FORWARD(tally_arena_alloc_slow, (tally_arena * arena, size_t size, size_t alignment),
              (arena, size, alignment))
TALLY_FORWARD(tally_arena_mark, (tally_arena * arena), (arena))
TALLY_FORWARD(tally_arena_rewind, (tally_arena * arena, tally_mark mark), (arena, mark))
TALLY_FORWARD(tally_arena_reset, (tally_arena * arena), (arena))
TALLY_FORWARD(tally_arena_stats, (const tally_arena* arena, tally_arena_stats_t* stats),
              (arena, stats))
