#include "heap/misuse.h"

#include "base/options.h"
#include "base/text.h"
#include "heap/guard_report.h"
#include "memory/address_map.h"
#include "os/os.h"
#include "tag/tag.h"

namespace tally::core {

constinit Options options;

namespace {

constinit std::atomic<uint64_t> g_foreign{0};

const char* name_of(Use use) {
  switch (use) {
    case Use::kFree:
      return "free of ";
    case Use::kRealloc:
      return "realloc of ";
    case Use::kUsableSize:
      return "usable size of ";
  }
  return "";
}

// One line in one write, so that lines of several threads do not mix.
class Line {
 public:
  Line() : text_(buffer_, sizeof buffer_ - 1) { text_.put("tally: "); }
  TextWriter& text() { return text_; }
  void put_block(const Slab* slab) {
    if ((place_ = guarded::place_of(slab)) != nullptr) return put_place(text_, *place_);
    TagReader reader;
    Binding what = slab->what();
    const Tag* tag = find_tag(what.tag);
    text_.put(" (tag ").put(tag == nullptr ? "?" : tag->name);
    if (slab->block_size != 0) {
      text_.put(", size class ").number(slab->block_size).put(")");
    } else {
      text_.put(", large block)");
    }
  }
  // `seen` nullptr: as it happens.
  void put_seen(const char* seen) {
    if (seen != nullptr) text_.put(", as is seen at ").put(seen);
  }
  void end() {
    size_t length = text_.used();
    buffer_[length++] = '\n';
    os::write_all(2, buffer_, length);
    if (place_ != nullptr) tell_history(*place_);
    if (!options.abort_on_corruption) return;
    // A handler of SIGABRT may allocate, and this thread may be in the middle of a step of ours.
    Lock::hold_all(true);
    os::abort_process();
  }

 private:
  char buffer_[512];
  TextWriter text_;
  const guarded::Place* place_ = nullptr;
};

}  // namespace

void misuse_freed(Use use, const void* p, const Slab* slab) {
  if (use == Use::kFree) return misuse_double_free(p, slab);
  Line line;
  line.text().put(name_of(use)).hex(address(p)).put(", which was freed");
  line.put_block(slab);
  line.end();
}

void misuse_double_free(const void* p, const Slab* slab, const char* seen) {
  Line line;
  line.text().put("double free of ").hex(address(p));
  line.put_block(slab);
  line.put_seen(seen);
  line.end();
}

void misuse_interior(Use use, const void* p, const Slab* slab, const char* seen) {
  Line line;
  line.text().put(name_of(use)).hex(address(p));
  bool in_blocks = slab->block_size != 0 && p >= slab->start;
  const void* start = in_blocks ? slab->block_at(slab->index_of(p)) : slab->start;
  if (start == p) {
    line.text().put(", where no block is yet");
  } else {
    line.text().put(", inside a block that starts at ").hex(address(start));
  }
  line.put_block(slab);
  line.put_seen(seen);
  line.end();
}

void misuse_links(const Block* block, const Slab* slab, const char* seen) {
  Line line;
  line.text().put("free list damaged at ").hex(address(block));
  line.text().put(": a block was freed twice, or a free one was written to");
  line.put_block(slab);
  line.put_seen(seen);
  line.end();
}

void misuse_damage(const char* seen, const void* p, const void* start, const void* end,
                   const Slab* slab) {
  Line line;
  line.text().put(p < start ? "underflow" : "overflow").put(": ").hex(address(p));
  line.text().put(" was written to, ");
  put_distance(line.text(), address(p), address(start), address(end));
  line.text().put(" block ").hex(address(start));
  line.put_block(slab);
  line.put_seen(seen);
  line.end();
}

void misuse_write(const void* p, const Block* block, const Slab* slab, const char* seen) {
  Line line;
  line.text().put("use after free: ").hex(address(p)).put(" was written to, ");
  put_distance(line.text(), address(p), address(block), UINTPTR_MAX);
  line.text().put(" block ").hex(address(block));
  line.put_block(slab);
  if (seen == nullptr) line.text().put(", as is seen when that is used again");
  line.put_seen(seen);
  line.end();
}

void report_free_block(const Block* block, unsigned c, const char* seen) {
  const Slab* slab = address_map.find(block);
  const size_t size = class_size(c);
  const hardened::State state = hardened::look_at_seal(block, size).state;
  if (state == hardened::State::kLive) return misuse_double_free(block, slab, seen);
  const char* written = hardened::find_write(block, size);
  misuse_write(written != nullptr ? written : hardened::seal_at(block, size), block, slab, seen);
}

namespace {

// What an underflow of p damages first. If the seal's first byte is, it came from below.
void check_seal_before(const void* p, const Slab* slab) {
  const size_t size = slab->block_size;
  const char* before = static_cast<const char*>(p) - size;
  const char* seal = hardened::seal_at(before, size);
  const uint64_t word = hardened::load_seal(seal);
  if (TALLY_LIKELY(hardened::read_seal(word, before, size).state != hardened::State::kDamaged)) {
    return;
  }
  // The page may be one that its owner is giving back, or takes into use again.
  if (word == 0 && (address(p) & (os::page_size() - 1)) == 0) return;
  if (hardened::find_damage(before, seal) == seal) {
    misuse_damage("its neighbour's free", seal, before, seal, slab);
  } else {
    misuse_damage("its free", static_cast<const char*>(p) - 1, p,
                  static_cast<const char*>(p) + size, slab);
  }
}

}  // namespace

TALLY_NOINLINE bool check_seal(Use use, const void* p, const Slab* slab) {
  const size_t size = slab->block_size;
  const hardened::Seal seal = hardened::look_at_seal(p, size);
  if (seal.state == hardened::State::kFree) {
    misuse_freed(use, p, slab);
    return false;
  }
  const char* seen = use == Use::kFree ? "its free" : "its realloc";
  const char* end = hardened::seal_at(p, size);
  const char* found = end;
  if (seal.state == hardened::State::kLive) {
    end = static_cast<const char*>(p) + seal.bytes;
    found = hardened::find_overflow(p, size, seal.bytes);
  } else if (const char* first = hardened::find_damage(p, end)) {
    found = first;
  }
  if (TALLY_UNLIKELY(found != nullptr)) {
    misuse_damage(seen, found, p, end, slab);
  } else if (p != slab->start) {
    check_seal_before(p, slab);
  }
  return true;
}

Block* hardened::report_link(const Block* block) {
  misuse_write(block, block, address_map.find(block));
  return nullptr;
}

void misuse_size(const void* p, size_t n, size_t has, const Slab* slab) {
  Line line;
  line.text().put("sized delete of ").hex(address(p)).put(" as ").number(n);
  line.text().put(n == 1 ? " byte, and it has " : " bytes, and it has ").number(has);
  line.put_block(slab);
  line.end();
}

void misuse_alignment(const void* p, size_t alignment, const Slab* slab) {
  Line line;
  line.text().put("aligned delete of ").hex(address(p)).put(", which is not aligned to ");
  line.text().number(alignment);
  line.put_block(slab);
  line.end();
}

void misuse_foreign(Use use, const void* p) {
  g_foreign.fetch_add(1, std::memory_order_relaxed);
  Line line;
  line.text().put(name_of(use)).hex(address(p)).put(", which is not a block of Tally's");
  line.end();
}

void misuse_list(const Block* first, uint32_t count, const Slab* slab) {
  // Slow, but the last thing the program does, or what it asked for: find the block that comes
  // twice.
  const Block* block = first;
  uint32_t most = slab->carved.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i <= most && block != nullptr; ++i, block = block->next()) {
    if (address(block) - address(slab->start) >= slab->slots * kSlotBytes) break;
    if (static_cast<const void*>(slab->block_at(slab->index_of(block))) != block) {
      misuse_interior(Use::kFree, block, slab);
      return;
    }
    const Block* before = first;
    for (uint32_t j = 0; j < i; ++j, before = before->next()) {
      if (before != block) continue;
      misuse_double_free(block, slab);
      return;
    }
  }
  if (count > most) {
    // More came back than was ever out; which of them came twice does not show any more.
    misuse_double_free(first, slab);
    return;
  }
  misuse_links(block == nullptr ? first : block, slab);
}

uint64_t foreign_count() { return g_foreign.load(std::memory_order_relaxed); }

}  // namespace tally::core
