#include "stats/pages.h"

#include <bit>

#include "base/math.h"
#include "heap/guarded.h"
#include "heap/holes.h"
#include "heap/large.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "memory/span.h"
#include "os/os.h"
#include "os/resident.h"

namespace tally::core {
namespace {

constexpr size_t kLooks = 256;
constexpr size_t kWindow = 1 * MiB;

// Of one sort of memory: how much there is, what of it was looked at, and was resident.
class Sort {
 public:
  // One window in `step` is looked at.
  void add(const char* start, size_t bytes, uint64_t step) {
    for (size_t at = 0; at < bytes; at += kWindow) {
      const size_t window = min_of(kWindow, bytes - at);
      all_ += window;
      if (passed_++ % step != 0) continue;
      looked_at_ += window;
      resident_ += os::resident_in(start + at, window);
    }
  }
  uint64_t all() const { return all_; }
  uint64_t resident() const {
    if (looked_at_ == all_) return resident_;
    return static_cast<uint64_t>(static_cast<double>(all_) * static_cast<double>(resident_) /
                                 static_cast<double>(looked_at_));
  }

 private:
  uint64_t all_ = 0, looked_at_ = 0, resident_ = 0, passed_ = 0;
};

class Look {
 public:
  Look(uint64_t step, Stretches* stretches) : step_(max_of(step, 1)), stretches_(stretches) {}

  void at_chunk(const Chunk* chunk) {
    auto* start = reinterpret_cast<const char*>(chunk);
    stretches_->add(start, chunk->hollow ? kSlotBytes : kChunkBytes);
    for (uint64_t rest = chunk->dirty_slots; rest != 0;) {
      const auto first = static_cast<unsigned>(std::countr_zero(rest));
      const auto count = static_cast<unsigned>(std::countr_one(rest >> first));
      size_t offset =
          first == 0 ? round_up(kChunkHeaderBytes, os::page_size()) : first * kSlotBytes;
      dirty_.add(start + offset, (first + count) * kSlotBytes - offset, step_);
      rest &= count == kSlotsPerChunk ? 0 : ~(((uint64_t{1} << count) - 1) << first);
    }
    if (chunk->large_blocks.load(std::memory_order_relaxed) == 0 && tail_count() == 0 &&
        waiting_bytes() == 0) {
      return;
    }
    for (unsigned i = 1; i < kSlotsPerChunk; ++i) {
      const Slab& slab = chunk->slabs[i];
      Binding what = Binding::unpack(slab.binding.load(std::memory_order_acquire));
      const size_t bytes = slab.bytes.load(std::memory_order_relaxed);
      const char* at = start + i * kSlotBytes;
      if (what.kind == SlabKind::kRun) {
        at_block(at, bytes, round_up(bytes, kSlotBytes));
      } else if (what.kind == SlabKind::kBlocks && slab.mapped != 0) {
        const size_t all = slots_of_slab(what.size_class) * kSlotBytes;
        dirty_.add(at + bytes, all - min_of(bytes, all), step_);
      } else if (what.kind == SlabKind::kFree && slab.waits.load(std::memory_order_relaxed)) {
        dirty_.add(at, bytes, step_);
      }
    }
  }
  void at_span(const SpanFacts& span) {
    stretches_->add(span.start, span.mapped);
    if (span.used == 0) {
      kept_.add(span.start, span.mapped, step_);
    } else {
      at_block(span.start, min_of(span.used, span.mapped), span.mapped);
    }
  }
  Pages result() const {
    return {.untouched = live_.all() - live_.resident(),
            .dirty = dirty_.resident(),
            .kept = kept_.resident(),
            .ends = ends_.resident() + guarded::slack_bytes()};  // which is filled
  }

 private:
  void at_block(const char* start, size_t used, size_t mapped) {
    live_.add(start, used, step_);
    ends_.add(start + used, mapped - used, step_);
  }

  uint64_t step_;
  Stretches* stretches_;
  Sort live_, dirty_, kept_, ends_;
};

}  // namespace

void Stretches::add(const void* start, size_t bytes) {
  const Stretch next = {address(start), address(start) + bytes};
  // Neighbours most often follow each other.
  if (count_ != 0) {
    Stretch& last = to_[count_ - 1];
    if (last.start == next.end) {
      last.start = next.start;
      return;
    }
    if (last.end == next.start) {
      last.end = next.end;
      return;
    }
  }
  if (count_ == most_) tidy();
  if (count_ == most_) {
    ++left_out_;
    return;
  }
  to_[count_++] = next;
}

// Shell sort: short, in place, and most often there is little to do.
void Stretches::tidy() {
  size_t gap = 1;
  while (gap < count_ / 3) gap = gap * 3 + 1;
  for (; gap != 0; gap /= 3) {
    for (size_t i = gap; i < count_; ++i) {
      const Stretch one = to_[i];
      size_t at = i;
      for (; at >= gap && to_[at - gap].start > one.start; at -= gap) to_[at] = to_[at - gap];
      to_[at] = one;
    }
  }
  size_t kept = 0;
  for (size_t i = 0; i < count_; ++i) {
    if (kept != 0 && to_[kept - 1].end >= to_[i].start) {
      to_[kept - 1].end = max_of(to_[kept - 1].end, to_[i].end);
    } else {
      to_[kept++] = to_[i];
    }
  }
  count_ = kept;
}

size_t Stretches::finish() {
  tidy();
  return count_;
}

Pages look_at_pages(uint64_t large_blocks, uint64_t large_bytes, Stretches* stretches) {
  const uint64_t windows =
      large_blocks + tail_count() +
      (large_bytes + dirty_run_bytes() + kept_span_bytes() + waiting_bytes()) / kWindow;
  Look look(divide_up(windows, kLooks), stretches);
  for (const Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    look.at_chunk(chunk);
  }
  constexpr size_t kAtOnce = 64;
  SpanFacts facts[kAtOnce];
  const Slab* next = nullptr;
  do {
    const size_t count = list_spans(&next, facts, kAtOnce);
    for (size_t i = 0; i < count; ++i) look.at_span(facts[i]);
  } while (next != nullptr);
  // (Guarded blocks' places are in a mapping of metadata's.)
  meta::for_each_mapping([&](const char* start, const char* end) {
    stretches->add(start, static_cast<size_t>(end - start));
  });
  return look.result();
}

}  // namespace tally::core
