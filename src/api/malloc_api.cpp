#include "api/malloc_api.h"

#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "base/math.h"
#include "base/text.h"
#include "heap/large.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "os/libc.h"
#include "stats/render.h"
#include "stats/walk.h"

namespace tally::core::api {
namespace {

// Behind Tally's table what who calls glibc's malloc_stats looks for, in its words. All that Tally
// has is mapped.
void render_table_and_totals(const tally_snapshot_t& snapshot, TextWriter& out) {
  render_table(snapshot, out);
  const tally_process_stats_t& process = snapshot.process;
  out.put("Total (incl. mmap):\nsystem bytes     = ").number(process.mapped_bytes);
  out.put("\nin use bytes     = ").number(process.live_bytes);
  out.put("\nmax mmap bytes   = ").number(snapshot.tags[0].total.peak_footprint_bytes).put('\n');
}

void* fail(int error) {
  errno = error;
  return nullptr;
}

// False if count * size is more than any block can have.
bool multiply(size_t count, size_t size, size_t* product) {
  return !__builtin_mul_overflow(count, size, product);
}

// A block stays where it is unless one of half its size would do.
bool fits(const Slab* slab, size_t n) {
  size_t size = slab->block_size;
  return n + kSealBytes <= size && class_size(class_for(n)) * 2 > size;
}

}  // namespace

void* allocate_array(Tag* tag, size_t count, size_t size, const void* caller) {
  size_t n;
  return multiply(count, size, &n) ? allocate_zeroed(tag, n, caller) : fail(ENOMEM);
}

void* allocate_aligned_checked(Tag* tag, size_t alignment, size_t n, const void* caller) {
  return is_power_of_two(alignment) ? allocate_aligned(tag, alignment, n, caller) : fail(EINVAL);
}

void* calloc(size_t count, size_t size, const void* caller) {
  return allocate_array(nullptr, count, size, caller);
}

void* resize(Tag* tag, void* p, size_t n) {
  Slab* slab = find_block(p);
  if (slab == nullptr) return is_libcs(p, Use::kRealloc) ? os::libc_realloc(p, n) : fail(EINVAL);
  if (n == 0) {
    release_block(p);
    return nullptr;
  }
  Tag* own = find_tag(slab->what().tag);
  if (tag == nullptr) tag = own;
  size_t old = usable_size(slab, p);
  if (tag == own) {
    // To grow is an allocation, wherever it ends up; to shrink cannot fail.
    if (n > old && own->fault() != nullptr && own->fault()->strikes(n)) return fail(ENOMEM);
    if (slab->block_size != 0) {
      if (fits(slab, n)) {
        set_usable_size(slab, p, n);
        return p;
      }
    } else if (backend::is_inside()) {
      if (n <= old) return p;
    } else {
      bool refused = false;
      void* same = n > old ? grow_large(slab, n, &refused) : resize_large(slab, n);
      if (same != nullptr || refused) return same;
    }
  }
  int error = errno;
  bool may_stay = tag == own && n <= old;
  void* block = tag == own ? allocate_beside(tag, n, may_stay) : allocate_tagged(tag, n);
  if (block == nullptr) {
    // What has become shorter may stay where it is.
    if (!may_stay) return nullptr;
    errno = error;
    return p;
  }
  memcpy(block, p, min_of(old, n));
  release_block(p);
  return block;
}

void* realloc(void* p, size_t n, const void* caller) {
  return p == nullptr ? allocate_for(caller, n) : resize(nullptr, p, n);
}

void* aligned_alloc(size_t alignment, size_t n, const void* caller) {
  return allocate_aligned_checked(nullptr, alignment, n, caller);
}

void* memalign(size_t alignment, size_t n, const void* caller) {
  if (alignment > SIZE_MAX / 2 + 1) return fail(EINVAL);  // the next power of two is none
  size_t power = kMinAlignment;
  while (power < alignment) power *= 2;
  return allocate_aligned(nullptr, power, n, caller);
}

int posix_memalign(void** result, size_t alignment, size_t n, const void* caller) {
  if (!is_power_of_two(alignment) || alignment < sizeof(void*)) return EINVAL;
  int error = errno;
  void* block = allocate_aligned(nullptr, alignment, n, caller);
  // POSIX leaves errno open then; callers of glibc's find ENOMEM there.
  if (block == nullptr) return ENOMEM;
  errno = error;
  *result = block;
  return 0;
}

size_t malloc_usable_size(const void* p) {
  if (p == nullptr) return 0;
  const Slab* slab = find_block(p);
  if (slab != nullptr) return usable_size(slab, p);
  return is_libcs(p, Use::kUsableSize) ? os::libc_usable_size(p) : 0;
}

int malloc_trim(size_t /*pad*/) {
  bool any = purge_all() != 0;
  settle_limits();
  return any ? 1 : 0;
}

int malloc_info(int flags, FILE* file) {
  if (flags != 0) return EINVAL;
  tally_snapshot_t* snapshot = take_snapshot();
  if (snapshot == nullptr) return ENOMEM;
  const tally_process_stats_t& process = snapshot->process;
  auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  fprintf(file, "<malloc version=\"tally-%d\">\n", TALLY_VERSION_MAJOR);
  fprintf(file, "<system type=\"current\" size=\"%llu\"/>\n", number(process.mapped_bytes));
  fprintf(file, "<system type=\"rss\" size=\"%llu\"/>\n", number(process.rss_bytes));
  fprintf(file, "<total type=\"live\" size=\"%llu\"/>\n", number(process.live_bytes));
  fprintf(file, "<total type=\"footprint\" size=\"%llu\"/>\n", number(process.footprint_bytes));
  for (uint64_t i = 0; i < snapshot->class_count; ++i) {
    const tally_class_stats_t& row = snapshot->classes[i];
    fprintf(file, "<sizes tag=\"%u\" size=\"%u\" live=\"%llu\" capacity=\"%llu\"/>\n", row.tag,
            row.block_size, number(row.live_blocks), number(row.capacity_blocks));
  }
  fprintf(file, "</malloc>\n");
  free_snapshot(snapshot);
  return 0;
}

void malloc_stats() {
  int error = errno;
  render_to_fd(render_table_and_totals, 2);
  errno = error;
}

// Accepted and without effect: what glibc tunes by it, Tally does not have.
int mallopt(int /*parameter*/, int /*value*/) { return 1; }

}  // namespace tally::core::api
