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

void misuse_double_free(const void* p, const Slab* slab) {
  Line line;
  line.text().put("double free of ").hex(address(p));
  line.put_block(slab);
  line.end();
}

void misuse_interior(Use use, const void* p, const Slab* slab) {
  Line line;
  line.text().put(name_of(use)).hex(address(p)).put(", inside a block that starts at ");
  bool in_blocks = slab->block_size != 0 && p >= slab->start;
  line.text().hex(address(in_blocks ? slab->block_at(slab->index_of(p)) : slab->start));
  line.put_block(slab);
  line.end();
}

void misuse_damage(const void* p, const guarded::Place* place) {
  Line line;
  const uintptr_t start = address(place->slab.start);
  const uintptr_t end = start + place->slab.bytes.load(std::memory_order_relaxed);
  line.text().put(address(p) < start ? "underflow" : "overflow").put(": ").hex(address(p));
  line.text().put(" was written to, ");
  put_distance(line.text(), address(p), start, end);
  line.text().put(" block ").hex(start);
  line.put_block(&place->slab);
  line.text().put(", as is seen at its free");
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
  for (uint32_t i = 0; i <= most && block != nullptr; ++i, block = block->next) {
    if (address(block) - address(slab->start) >= slab->slots * kSlotBytes) break;
    if (static_cast<const void*>(slab->block_at(slab->index_of(block))) != block) {
      misuse_interior(Use::kFree, block, slab);
      return;
    }
    const Block* before = first;
    for (uint32_t j = 0; j < i; ++j, before = before->next) {
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
  Line line;
  line.text().put("free list damaged at ").hex(address(block == nullptr ? first : block));
  line.text().put(": a block was freed twice, or written to after it was freed");
  line.put_block(slab);
  line.end();
}

uint64_t foreign_count() { return g_foreign.load(std::memory_order_relaxed); }

}  // namespace tally::core
