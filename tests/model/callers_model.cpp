// What threads know of modules: heap/callers.cpp's find_callers_heap, note_caller and forget, and
// heap/callers.h's known_heap, against a dynamic linker that puts one module in another's place.
//
// A thread calls malloc from the program and from a plug-in, at the same page of code all the time,
// while that is there; another loads something else, and then takes the plug-in away and loads one
// in its place, whose constructors call malloc at once. The thread's heap for the plug-in is given
// up and becomes another tag's, too. A plug-in is not taken away while a thread runs in it.
#include "checker.h"

namespace tally::model {
namespace {

struct CallersModel {
  static constexpr int kThreads = 2;
  static constexpr int kCaller = 0, kLoader = 1;
  static constexpr uint8_t kEnd = 99, kProgram = 9;

  bool loads_are_compared = true;   // by known_heap
  bool old_is_forgotten = true;     // when there were loads
  bool loads_are_noted = true;      // by note_caller, as the linker allocates
  bool noted_before_mapped = true;  // likewise: before code of the new one can run
  bool heap_is_forgotten = true;    // when it is given up

  // What one thread knows. A heap is the number of the module that it counts for; 0: no heap.
  struct Known {
    uint8_t loads;
    uint8_t page, program;
  };
  struct State {
    uint8_t loads;
    uint8_t module;   // at the page: 1, 2; 0: none
    uint8_t running;  // threads in it
    Known known[kThreads];
    uint8_t saw_loads[kThreads];
    uint8_t from[kThreads];  // where the call comes from: the module, or the program
    uint8_t bound;           // of the heap that the caller got for module 1: what it counts for now
    uint8_t at[kThreads];
    uint8_t calls, gave_up;
  };

  State start() const {
    State s = {};
    s.loads = 1;
    s.module = s.bound = 1;
    s.calls = 4;
    return s;
  }
  bool done(const State& s, int t) const { return s.at[t] == kEnd; }
  int where(const State& s, int t) const { return s.at[t]; }
  int choices(const State& s, int t) const {
    if (t == kCaller) return s.at[t] == 0 ? 3 : 1;
    return s.at[t] == 3 && s.running != 0 ? 0 : 1;
  }

  const char* step(State& s, int t, int choice) const {
    if (t == kLoader && s.at[t] < 20) return loads(s);
    return calls(s, t, choice);
  }

  // malloc(n), from a place.
  const char* calls(State& s, int t, int choice) const {
    uint8_t& at = s.at[t];
    Known& known = s.known[t];
    switch (at) {
      case 0:
        if (s.calls == 0) {
          at = kEnd;
          return nullptr;
        }
        --s.calls;
        if (choice == 2) {  // the heap of module 1 is given up, and is another tag's from then on
          if (s.gave_up == 0 && known.page == 1) {
            s.gave_up = 1;
            s.bound = 7;
            if (heap_is_forgotten) known.page = 0;
          }
          return nullptr;
        }
        if (choice == 1 && s.module == 0) return nullptr;
        s.from[t] = choice == 1 ? s.module : kProgram;
        if (choice == 1) ++s.running;
        at = 20;
        return nullptr;
      case 20: {  // known_heap
        const bool is_known = known.loads == s.loads || !loads_are_compared;
        const uint8_t heap = s.from[t] == kProgram ? known.program : known.page;
        if (is_known && heap != 0) {
          at = 24;
          if (s.from[t] != kProgram && counts_for(s, t, heap) != s.from[t])
            return "a block counts for another module than its caller's";
          return nullptr;
        }
        at = 21;
        return nullptr;
      }
      case 21:  // find_callers_heap
        s.saw_loads[t] = s.loads;
        at = 22;
        return nullptr;
      case 22:
        if (known.loads != s.saw_loads[t]) {
          if (old_is_forgotten) known.page = known.program = 0;
          known.loads = s.saw_loads[t];
        }
        at = 23;
        return nullptr;
      case 23:
        if (s.from[t] == kProgram) {
          known.program = kProgram;
        } else {
          known.page = s.from[t];
          // A heap that was given up is made anew.
          if (t == kCaller && s.from[t] == 1) s.bound = 1;
        }
        at = 24;
        return nullptr;
      default:
        if (s.from[t] != kProgram) --s.running;
        at = t == kLoader ? kEnd : uint8_t{0};
        return nullptr;
    }
  }
  static uint8_t counts_for(const State& s, int t, uint8_t heap) {
    return t == kCaller && heap == 1 ? s.bound : heap;
  }

  const char* loads(State& s) const {
    uint8_t& at = s.at[kLoader];
    switch (at) {
      case 0:  // something elsewhere
        if (loads_are_noted) ++s.loads;
        at = 1;
        return nullptr;
      case 1:
        at = 3;
        return nullptr;
      case 3:  // dlclose
        s.module = 0;
        at = 4;
        return nullptr;
      case 4:  // dlopen: the descriptor, and then the mapping
        if (loads_are_noted && noted_before_mapped) ++s.loads;
        at = 5;
        return nullptr;
      case 5:
        s.module = 2;
        at = 6;
        return nullptr;
      default:  // its constructors, on this thread, and on others that it wakes
        if (loads_are_noted && !noted_before_mapped) ++s.loads;
        s.from[kLoader] = 2;
        ++s.running;
        at = 20;
        return nullptr;
    }
  }

  const char* broken(const State&) const { return nullptr; }
  const char* broken_at_end(const State& s) const {
    return s.running != 0 ? "a thread is in a module for ever" : nullptr;
  }
};

}  // namespace
}  // namespace tally::model

int main() {
  using namespace tally::model;
  Verdict verdict;
  CallersModel model;
  verdict.holds("what is known of modules that come and go", model);
  model = {};
  model.loads_are_compared = false;
  verdict.fails("without known_heap's look at the number of loads", model);
  model = {};
  model.old_is_forgotten = false;
  verdict.fails("with what was known before a load", model);
  model = {};
  model.loads_are_noted = false;
  verdict.fails("with loads that are not noted", model);
  model = {};
  model.noted_before_mapped = false;
  verdict.fails("with a load that is noted when the module is there", model);
  model = {};
  model.heap_is_forgotten = false;
  verdict.fails("with a heap that is given up and not forgotten", model);
  return verdict.exit_code();
}
