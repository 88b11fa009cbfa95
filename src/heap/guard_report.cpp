#include "heap/guard_report.h"

#include "base/math.h"
#include "base/options.h"
#include "os/fault.h"
#include "os/libc.h"
#include "os/os.h"
#include "sample/modules.h"

namespace tally::core {

constinit Lock guard_report_lock;

namespace {

using guarded::Event;
using guarded::Place;

// Under the lock, as the stack that a signal handler runs on may be small.
constinit char g_text[4096] = {};
// With those of the handler itself.
constinit StackFrame g_frames[Event::kDepthMost + 16] = {};

bool write_on(void* /*to*/, const char* text, size_t length) {
  return os::write_all(2, text, length);
}

void put_frame(TextWriter& out, size_t number, const StackFrame& frame) {
  const uintptr_t code = frame.address - 1;  // in the call
  out.put("    #").number(number).put(' ').hex(code);
  if (frame.module != modules::kNone) {
    const modules::Entry& module = modules::at(frame.module);
    out.put(" (").put(module.path).put('+').hex(code - module.bias).put(')');
    if (module.build_id_bytes != 0) out.put(" (BuildId: ");
    for (uint32_t i = 0; i < module.build_id_bytes; ++i) {
      constexpr char kDigits[] = "0123456789abcdef";
      out.put(kDigits[module.build_id[i] >> 4]).put(kDigits[module.build_id[i] & 15]);
    }
    if (module.build_id_bytes != 0) out.put(')');
  }
  out.put('\n');
}

void put_stack(TextWriter& out, const char* what, uint32_t thread, const StackFrame* frames,
               size_t depth) {
  out.put("tally: ").put(what).put(" thread ").number(thread).put(depth == 0 ? "\n" : ":\n");
  for (size_t i = 0; i < depth; ++i) put_frame(out, i, frames[i]);
}

void put_event(TextWriter& out, const char* what, const Event& event) {
  const uint32_t thread = event.thread.load(std::memory_order_acquire);
  if (thread == 0) return;
  put_stack(out, what, thread, event.frames, min_of(event.depth, Event::kDepthMost));
}

// From the instruction at `code` on, which a signal interrupted; 0: from who called Tally on.
void put_here(TextWriter& out, uintptr_t code) {
  size_t depth = unwind(g_frames, sizeof g_frames / sizeof *g_frames);
  size_t first = 0;
  if (code != 0) {
    while (first < depth && g_frames[first].address - 1 != code) ++first;
    if (first == depth) {
      // No way was found through the signal's frame.
      os::Module module;
      const bool found = os::find_module(reinterpret_cast<const void*>(code), &module);
      g_frames[0] = {code + 1, found ? modules::index_of(module) : modules::kNone};
      first = 0;
      depth = 1;
    }
  }
  put_stack(out, "here,", os::thread_id(), g_frames + first,
            min_of(depth - first, Event::kDepthMost));
}

void put_history(TextWriter& out, const Place& place, uintptr_t code) {
  put_here(out, code);
  put_event(out, "allocated by", place.allocated);
  put_event(out, "freed by", place.freed);
}

void put_headline(TextWriter& out, const os::Fault& fault, const Place& place) {
  const uintptr_t start = address(place.slab.start);
  const uintptr_t end = start + place.slab.bytes.load(std::memory_order_relaxed);
  const bool is_live = place.slab.what().kind == SlabKind::kGuarded;
  out.put("tally: ");
  out.put(!is_live ? "use after free" : fault.address < start ? "underflow" : "overflow");
  switch (fault.access) {
    case os::Fault::Access::kRead:
      out.put(": read of ");
      break;
    case os::Fault::Access::kWrite:
      out.put(": write to ");
      break;
    case os::Fault::Access::kUnknown:
      out.put(": access to ");
      break;
  }
  out.hex(fault.address).put(", ");
  put_distance(out, fault.address, start, end);
  out.put(" block ").hex(start);
  put_place(out, place);
  out.put('\n');
}

// In a signal handler.
bool on_fault(const os::Fault& fault) {
  Place* place = guarded::nearest_to(fault.address);
  if (place == nullptr) return false;
  // Whoever comes second waits: the process is not to end before all is said.
  LockGuard guard(guard_report_lock);
  if (!place->is_reported.exchange(true, std::memory_order_relaxed)) {
    TextWriter out(g_text, sizeof g_text, write_on);
    put_headline(out, fault, *place);
    put_history(out, *place, fault.code);
    out.flush();
  }
  return !options.abort_on_corruption && guarded::let_through(fault.address);
}

}  // namespace

bool start_guarding(uint32_t every) {
  if (every == 0) return true;
  return guarded::start(every) && os::on_fault(on_fault);
}

void put_place(TextWriter& out, const Place& place) {
  out.put(" (tag ").put(place.tag).put(", guarded block of ");
  out.number(place.slab.bytes.load(std::memory_order_relaxed)).put(" bytes)");
}

void put_distance(TextWriter& out, uintptr_t at, uintptr_t start, uintptr_t end) {
  const uintptr_t by = at < start ? start - at : at >= end ? at - end + 1 : at - start;
  out.number(by).put(by == 1 ? " byte " : " bytes ");
  out.put(at < start ? "before" : at >= end ? "past the end of" : "into");
}

void tell_history(const Place& place) {
  LockGuard guard(guard_report_lock);
  TextWriter out(g_text, sizeof g_text, write_on);
  put_history(out, place, 0);
  out.flush();
}

}  // namespace tally::core
