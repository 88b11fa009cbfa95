#include "arena/arena.h"

#include <errno.h>
#include <string.h>

#include <bit>
#include <new>

#include "base/check.h"
#include "base/math.h"
#include "heap/allocate.h"
#include "heap/free.h"

// AddressSanitizer's, where the program has it: whether it does is known when it runs, not when
// this is compiled.
extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* p, size_t n);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* p, size_t n);
}

namespace tally::core {
namespace {

constexpr size_t kStep = 8;  // of the cursor
constexpr int kFreed = 0xdd;
// Serials are handed to arenas so many at a time; none is ever used twice.
constexpr tally_mark kSerials = 1 << 16;
constinit std::atomic<tally_mark> g_serials{kSerials};

bool has_asan() { return __asan_poison_memory_region != nullptr; }

void* pointer(uintptr_t at) { return reinterpret_cast<void*>(at); }

void poison(uintptr_t from, uintptr_t to) {
  if (has_asan()) __asan_poison_memory_region(pointer(from), to - from);
}
void unpoison(uintptr_t from, uintptr_t to) {
  if (has_asan()) __asan_unpoison_memory_region(pointer(from), to - from);
}

// Nobody's any more.
void forget(uintptr_t from, uintptr_t to) {
  if constexpr (kChecks) {
    unpoison(from, to);  // the padding between blocks
    memset(pointer(from), kFreed, to - from);
  }
  poison(from, to);
}

void* fail(int error) {
  errno = error;
  return nullptr;
}

}  // namespace

Arena::Arena(Tag* tag, size_t first, size_t most, size_t keep)
    : tally_arena{},
      tag_(tag),
      first_(first),
      most_(most),
      keep_(keep),
      begin_with_(first),
      reserved_(block_bytes(find_block(this))),
      peak_reserved_(reserved_) {}

Arena::~Arena() {
  reset();
  if (kept_ != nullptr) give(kept_);
}

Arena* Arena::create(Tag* tag, size_t first, size_t most, size_t keep) {
  void* block = allocate_tagged(tag, sizeof(Arena));
  return block == nullptr ? nullptr : new (block) Arena(tag, first, most, keep);
}

void Arena::destroy() {
  this->~Arena();
  release_block(this);
}

bool Arena::is_valid() const {
  size_t past_used = 0, waste = 0, reserved = block_bytes(find_block(this));
  uint64_t count = 0;
  auto hold = [&](const Segment* segment) {
    reserved += block_bytes(find_block(segment));
    ++count;
  };
  auto pass = [&](const Segment* segment) {
    past_used += segment->used_to - segment->start();
    waste += segment->end() - segment->used_to;
  };
  for (const Segment* s = segment_; s != nullptr; s = s->previous) {
    hold(s);
    if (s != segment_) pass(s);
  }
  for (const Segment* s = large_; s != nullptr; s = s->previous) {
    hold(s);
    pass(s);
  }
  if (kept_ != nullptr) hold(kept_);
  bool is_in_segment = segment_ == nullptr ? at() == 0 && limit_ == 0
                                           : segment_->start() <= at() && at() <= limit_ &&
                                                 limit_ == segment_->end();
  return is_in_segment && at() % kStep == 0 && past_used == past_used_ && waste == waste_ &&
         reserved == reserved_ && count == segments_;
}

void Arena::move_to(uintptr_t at, uintptr_t limit) {
  cursor = reinterpret_cast<tally_arena_place*>(at);
  limit_ = limit;
  end = reinterpret_cast<tally_arena_place*>(has_asan() ? at : limit);
}

void* Arena::bump(size_t n, size_t alignment) {
  uintptr_t start = round_up(at(), alignment);
  uintptr_t after = start + round_up(n, kStep);
  if (after > limit_) return nullptr;
  move_to(after, limit_);
  unpoison(start, start + n);
  return pointer(start);
}

void* Arena::allocate(size_t n, size_t alignment) {
  if (!is_power_of_two(alignment)) return fail(EINVAL);
  // So that no sum below wraps.
  if (n > PTRDIFF_MAX / 4 || alignment > PTRDIFF_MAX / 4) return fail(ENOMEM);
  n = max_of(n, 1);
  if (void* block = bump(n, alignment)) return block;
  // Wherever a segment starts, which is at a multiple of kMinAlignment.
  size_t need = round_up(n, kStep) + max_of(alignment, kMinAlignment) - kMinAlignment;
  // A large one leaves the segment to the small ones. But there is none after a reset, which kept
  // what is to hold large ones too.
  size_t first_room = segment_ != nullptr ? 0
                      : kept_ != nullptr  ? kept_->room()
                                          : begin_with_ - sizeof(Segment);
  void* block = nullptr;
  if (need > most_ / 4 && need > first_room) {
    block = allocate_large(n, alignment, need);
  } else if (grow(need)) {
    block = bump(n, alignment);
  }
  TALLY_ASSERT(is_valid());
  return block;
}

void* Arena::allocate_large(size_t n, size_t alignment, size_t need) {
  size_t bytes = sizeof(Segment) + need + kSealBytes;
  Segment* segment = take(bytes, bytes);
  if (segment == nullptr) return nullptr;
  uintptr_t start = round_up(segment->start(), alignment);
  segment->used_to = start + round_up(n, kStep);
  segment->previous = large_;
  large_ = segment;
  past_used_ += segment->used_to - segment->start();
  waste_ += segment->end() - segment->used_to;
  unpoison(start, start + n);
  return pointer(start);
}

// The next segment, with so much room at least. False, and errno: all is as before.
bool Arena::grow(size_t need) {
  Segment* segment = kept_;
  if (segment != nullptr && segment->room() >= need) {
    kept_ = nullptr;
  } else {
    size_t least = sizeof(Segment) + need + kSealBytes;
    size_t wanted = segment_ == nullptr ? begin_with_ : min_of(2 * segment_->bytes, most_);
    while (wanted < least) wanted *= 2;
    segment = take(wanted, min_of(wanted, max_of(least, first_)));
  }
  if (segment == nullptr) return false;
  push(segment);
  return true;
}

// A block of the heap; if the one that is wanted would have to be fought for, the least that will
// do.
Segment* Arena::take(size_t wanted, size_t least) {
  if (!tag_->is_live()) return static_cast<Segment*>(fail(EINVAL));
  if (tag_->fault() != nullptr && tag_->fault()->strikes(wanted)) {
    return static_cast<Segment*>(fail(ENOMEM));
  }
  int error = errno;
  void* block = wanted > least ? allocate_beside(tag_, wanted - kSealBytes, true) : nullptr;
  if (block == nullptr) block = allocate_beside(tag_, least - kSealBytes, false);
  if (block == nullptr) return nullptr;
  errno = error;
  auto* segment = new (block) Segment;
  Slab* slab = find_block(block);
  if (slab->block_size != 0) set_usable_size(slab, block, slab->block_size - kSealBytes);
  segment->bytes = usable_size(slab, block);
  reserved_ += block_bytes(slab);
  peak_reserved_ = max_of(peak_reserved_, reserved_);
  ++segments_;
  ++segments_taken_;
  poison(segment->start(), segment->end());
  return segment;
}

void Arena::push(Segment* segment) {
  if (segment_ != nullptr) {
    segment_->used_to = at();
    past_used_ += at() - segment_->start();
    waste_ += limit_ - at();
  }
  segment->previous = segment_;
  segment_ = segment;
  move_to(segment->start(), segment->end());
}

// Goes back to the segment before.
void Arena::pop() {
  Segment* segment = segment_;
  forget(segment->start(), at());
  segment_ = segment->previous;
  if (segment_ == nullptr) {
    move_to(0, 0);
  } else {
    move_to(segment_->used_to, segment_->end());
    past_used_ -= at() - segment_->start();
    waste_ -= limit_ - at();
  }
  keep_or_give(segment);
}

void Arena::pop_large() {
  Segment* segment = large_;
  forget(segment->start(), segment->used_to);
  large_ = segment->previous;
  past_used_ -= segment->used_to - segment->start();
  waste_ -= segment->end() - segment->used_to;
  give(segment);
}

// What is kept is the longest that may be.
void Arena::keep_or_give(Segment* segment) {
  if (segment->bytes <= keep_ && (kept_ == nullptr || kept_->bytes < segment->bytes)) {
    Segment* shorter = kept_;
    kept_ = segment;
    segment = shorter;
  }
  if (segment != nullptr) give(segment);
}

void Arena::give(Segment* segment) {
  reserved_ -= block_bytes(find_block(segment));
  --segments_;
  unpoison(segment->start(), segment->end());
  release_block(segment);
}

tally_mark Arena::mark() {
  // Nothing since the last one?
  if (last_mark_ != nullptr && at() == address(last_mark_ + 1) && large_ == last_mark_->large) {
    return last_mark_->serial;
  }
  void* place = tally_arena_alloc(this, sizeof(Mark), alignof(Mark));
  if (place == nullptr) return TALLY_MARK_NONE;
  if (next_serial_ % kSerials == 0) {
    next_serial_ = g_serials.fetch_add(kSerials, std::memory_order_relaxed);
  }
  last_mark_ = new (place) Mark{last_mark_, next_serial_++, segment_, large_};
  return last_mark_->serial;
}

bool Arena::rewind(tally_mark serial) {
  Mark* mark = last_mark_;
  while (mark != nullptr && mark->serial > serial) mark = mark->previous;
  if (mark == nullptr || mark->serial != serial) return false;
  peak_used_ = max_of(peak_used_, used());
  last_mark_ = mark;
  while (large_ != mark->large) pop_large();
  while (segment_ != mark->segment) pop();
  uintptr_t to = address(mark + 1);
  forget(to, at());
  move_to(to, limit_);
  TALLY_ASSERT(is_valid());
  return true;
}

void Arena::reset() {
  size_t was_used = used();
  peak_used_ = max_of(peak_used_, was_used);
  last_mark_ = nullptr;
  while (large_ != nullptr) pop_large();
  while (segment_ != nullptr) pop();
  TALLY_ASSERT(is_valid());
  begin_with_ = first_;
  if (kept_ != nullptr && kept_->room() >= was_used) return;
  // One segment for as much and an eighth, as padding may come out otherwise: the next time.
  if (was_used > keep_ - min_of(keep_, sizeof(Segment))) return;
  size_t enough = min_of(std::bit_ceil(sizeof(Segment) + was_used + was_used / 8), keep_);
  begin_with_ = max_of(enough, first_);
  if (Segment* shorter = kept_) {
    kept_ = nullptr;
    give(shorter);
  }
}

void Arena::describe(tally_arena_stats_t* stats) const {
  size_t now = used();
  *stats = {.size = sizeof *stats,
            .tag = tag_->id,
            .used_bytes = now,
            .peak_used_bytes = max_of(peak_used_, now),
            .waste_bytes = waste_,
            .reserved_bytes = reserved_,
            .peak_reserved_bytes = peak_reserved_,
            .segment_count = segments_,
            .segments_taken = segments_taken_};
}

}  // namespace tally::core
