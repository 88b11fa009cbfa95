#include "sample/unwind.h"

#include <atomic>

#include "base/check.h"
#include "base/math.h"
#include "base/processor.h"
#include "os/libc.h"
#include "os/lock.h"
#include "os/os.h"
#include "sample/cfi.h"
#include "sample/modules.h"

namespace tally::core {
namespace {

using cfi::Row;
using processor::Registers;

// ---- What is known of addresses of code.

// By a hash of address and module's index: the row, and by what it is known to be that one's, as
// long as it is whole.
struct Known {
  std::atomic<uint64_t> check;  // the key ^ row
  std::atomic<uint64_t> row;
};
constexpr size_t kKnown = 4096;
constinit Known g_known[kKnown] = {};

// One to one, so that two keys differ as their addresses and modules do. Never 0, as the empty
// entry has it.
uint64_t key_of(uintptr_t code, uint32_t module) {
  const uint64_t key = (code ^ uint64_t{module + 1} << 48) * 0x9e3779b97f4a7c15;
  return key ^ key >> 32;
}

Row row_of(uintptr_t code, const os::Module& module, uint32_t index) {
  const uint64_t key = key_of(code, index);
  Known& known = g_known[key % kKnown];
  const uint64_t word = known.row.load(std::memory_order_relaxed);
  if ((known.check.load(std::memory_order_relaxed) ^ word) == key) return Row::of(word);
  const Row row = cfi::row_at(module.unwinding, module.start, module.end, code);
  // Of one that has no index nothing tells it from the next in its place.
  if (index != modules::kNone) {
    known.row.store(row.word(), std::memory_order_relaxed);
    known.check.store(key ^ row.word(), std::memory_order_relaxed);
  }
  return row;
}

// ---- What can be read of the stack.

constexpr uintptr_t kPage = 4096;  // or a part of one

// Of the running thread's stack: how many pages below its top were read, and whether that top is
// the first thread's. A thread's stack stays while the thread lives, and what is known of it dies
// with it. (A handler of signals may come between; each leaves one that holds.)
constexpr uint32_t kIsMains = uint32_t{1} << 31;
constinit thread_local uint32_t t_known = 0;

class Stack {
 public:
  // `is_ours`: this thread runs on it.
  void enter(uintptr_t sp, bool is_ours);
  // An address at or above that.
  bool read(uintptr_t at, uintptr_t* word);
  // What was found out is kept for the next walk. `is_cut`: this one was not at the outermost yet.
  void leave(bool is_cut);

 private:
  // A hole of so many pages in what a walk reads is not looked at.
  static constexpr uintptr_t kMostAhead = 16 * kPage;

  bool extend(uintptr_t at);  // which is not below high_, or below low_
  void join();
  static uintptr_t load(uintptr_t at);

  uintptr_t low_ = 0, high_ = 0;  // it can be read
  uintptr_t top_ = 0;             // of this thread's own stack, if this is that; 0: of another
  uint32_t whose_ = 0;            // kIsMains, or 0
  uintptr_t known_low_ = 0;       // from there up to top_ it can be read
};

void Stack::enter(uintptr_t sp, bool is_ours) {
  low_ = sp & ~(kPage - 1);
  high_ = is_ours ? low_ + kPage : low_;
  // A thread's control block lies above its stack; that of the first thread below all stacks, or
  // above another.
  constexpr uintptr_t kLongest = uintptr_t{1} << 36;
  const uintptr_t to_mains = os::main_stack_top() - sp, to_own = Lock::me() - sp;
  const uintptr_t above = min_of(to_mains, to_own);
  whose_ = to_mains < to_own ? kIsMains : 0;
  top_ = above < kLongest ? ((sp + above) & ~(kPage - 1)) + kPage : 0;
  known_low_ = top_;
  if (top_ != 0 && (t_known & kIsMains) == whose_) {
    known_low_ = top_ - uintptr_t{t_known & ~kIsMains} * kPage;
  }
  join();
}

void Stack::join() {
  if (top_ != 0 && high_ >= known_low_ && high_ < top_) high_ = top_;
}

void Stack::leave(bool is_cut) {
  // What lies above the outermost frame, a thread's storage, is not much. If there is more, this is
  // another stack, which ends before.
  constexpr uintptr_t kMostLeft = uintptr_t{8} << 20;
  const uintptr_t left = high_ < known_low_ ? known_low_ - high_ : 0;
  if (top_ == 0 || low_ >= known_low_ || left > (is_cut ? kMostLeft : kMostAhead)) return;
  while (high_ < top_) {
    if (!extend(high_)) return;
  }
  t_known = whose_ | static_cast<uint32_t>((top_ - low_) / kPage);
}

bool Stack::extend(uintptr_t at) {
  if (at < low_) return false;
  if (at - high_ > kMostAhead) {
    low_ = high_ = at & ~(kPage - 1);
    top_ = 0;
  }
  while (high_ <= at) {
    if (!os::is_readable(reinterpret_cast<const void*>(high_))) return false;
    high_ += kPage;
    join();
  }
  return true;
}

// What lies between the objects on the stack is none of the sanitizers' business.
__attribute__((no_sanitize_address, no_sanitize_thread)) TALLY_NOINLINE uintptr_t
Stack::load(uintptr_t at) {
  return *reinterpret_cast<const uintptr_t*>(at);
}

bool Stack::read(uintptr_t at, uintptr_t* word) {
  if (at % sizeof *word != 0) return false;
  if (TALLY_UNLIKELY(at - low_ >= high_ - low_) && !extend(at)) return false;
  *word = load(at);
  return true;
}

// ---- The walk.

class Walk {
 public:
  explicit Walk(const Registers& at) : at_(at) {
    stack_.enter(at.sp, true);
    look();
  }
  // To the caller; false: there is none, or none that can be found.
  bool step();
  // It is known to be a caller, as it lies where one may, or was found by a table.
  bool is_certain() const { return index_ != modules::kNone || by_table_; }
  StackFrame frame() const { return {at_.code + 1, index_}; }
  uint32_t module() const { return index_; }
  void end(bool is_cut) { stack_.leave(is_cut); }

 private:
  void look();
  bool step_by(const Row& row);
  bool step_by_frame_pointer();

  Registers at_;  // as the frame has them that is to be left
  Stack stack_;
  os::Module module_;  // the last that was found: callers are often in the same
  uint32_t last_index_ = modules::kNone;
  uint32_t index_ = modules::kNone;  // of at_.code's
  bool by_table_ = true;
  unsigned signals_ = 0;
};

void Walk::look() {
  const auto* code = reinterpret_cast<const void*>(at_.code);
  if (!module_.contains(code)) {
    os::Module found;
    if (!os::find_module(code, &found)) {
      index_ = modules::kNone;
      return;
    }
    module_ = found;
    last_index_ = modules::index_of(found);
  }
  index_ = last_index_;
}

bool Walk::step() {
  Row row = {};
  if (module_.contains(reinterpret_cast<const void*>(at_.code))) {
    row = row_of(at_.code, module_, index_);
  }
  if (row.kind == cfi::Kind::kEnd) return false;
  by_table_ = row.kind != cfi::Kind::kNone;
  if (!(by_table_ ? step_by(row) : step_by_frame_pointer())) return false;
  look();
  return true;
}

bool Walk::step_by(const Row& row) {
  constexpr intptr_t kWord = sizeof(uintptr_t);
  const uintptr_t base = row.by_fp ? at_.fp : at_.sp;
  uintptr_t cfa = base + static_cast<uintptr_t>(row.cfa * kWord);
  if (row.is_indirect) {
    if (!stack_.read(cfa, &cfa)) return false;
    cfa += row.beyond * kWord;
  }
  uintptr_t code, fp = at_.fp;
  const auto place = [&](bool by_base, int words) {
    return (by_base ? base : cfa) + static_cast<uintptr_t>(words * kWord);
  };
  if (!stack_.read(place(row.ra_by_base, row.ra), &code)) return false;
  if (row.has_fp && !stack_.read(place(row.fp_by_base, row.fp), &fp)) return false;
  code = processor::without_signature(code);
  if (code == 0) return false;
  if (row.kind == cfi::Kind::kSignal) {
    // Who was interrupted may have run on another stack, and wrong.
    constexpr unsigned kMostSignals = 8;
    if (++signals_ > kMostSignals || cfa % sizeof(uintptr_t) != 0) return false;
    stack_.leave(false);
    stack_.enter(cfa, false);
    at_ = {code, cfa, fp};
    return true;
  }
  if (cfa <= at_.sp) return false;
  at_ = {code - 1, cfa, fp};
  return true;
}

// Of code that no table describes: right if it keeps the chain, or has left its caller's alone.
bool Walk::step_by_frame_pointer() {
  constexpr uintptr_t kFarthest = uintptr_t{1} << 20;
  const bool is_plausible = at_.fp >= at_.sp && at_.fp - at_.sp < kFarthest;
  return is_plausible && step_by(cfi::kByFramePointer);
}

}  // namespace

TALLY_NOINLINE size_t unwind(StackFrame* frames, size_t most) {
  Walk walk(processor::here());
  const uint32_t own = walk.module();
  bool is_leading = own != modules::kNone && modules::at(own).is_program == 0;
  size_t count = 0, certain = 0;
  // Tally's own frames are few.
  constexpr size_t kMostOwn = 64;
  for (size_t steps = 0; count < most && steps < most + kMostOwn; ++steps) {
    if (!walk.step()) {
      count = certain;
      break;
    }
    if (is_leading && walk.module() == own) continue;
    is_leading = false;
    frames[count++] = walk.frame();
    if (walk.is_certain()) certain = count;
  }
  walk.end(count == most);
  return count;
}

}  // namespace tally::core
