// From the calls of a profile to functions and lines, by the debug information of the files that
// they lie in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profile.h"

namespace tally::tool {

struct Frame {
  std::string function;  // demangled; "libfoo.so.1+0x1234" where none is known
  std::string file;      // of the source, as it was compiled; empty: not known
  uint32_t line = 0;
  bool is_inlined = false;  // in the frame that follows it
};

// A frame of the C++ library's, within which a program's own call ends.
bool is_cxx_librarys(const Frame& frame);

class SymbolFile;

class Symbols {
 public:
  // `profile` outlives it. `root`: where the files of the process are, as /proc/PID/root; empty:
  // where they are for this process.
  explicit Symbols(const Profile& profile, std::string root = "");
  ~Symbols();

  // The functions at a call, innermost first: those inlined there, then the one that has its code.
  // At least one; of call 0 "(unknown)". It is looked up once.
  const std::vector<Frame>& frames_of(uint32_t call);

  // The calls of a stack, innermost first, without the allocator's own; 0 alone if there are
  // none.
  std::vector<uint32_t> stack_of(uint32_t call);

  // The path of the file that a call lies in; empty: of none.
  std::string_view module_of(uint32_t call) const;

  // Lines of a stack for people, innermost first: "fill(Cache&)  cache.cpp:12". They begin where
  // the C++ library's own end, and are at most so many; 0: all.
  std::vector<std::string> lines_of(uint32_t call, size_t most);

  // What was not known of the calls so far and why, in sentences for people.
  std::vector<std::string> complaints() const;

 private:
  enum class Lack { kNone, kGone, kReplaced, kSymbols };
  struct Module {
    std::unique_ptr<SymbolFile> file;
    Lack lack = Lack::kNone;
  };
  Module& open(uint32_t index);
  std::vector<Frame> look_up(const record::Call& call);
  bool is_allocators(uint32_t call);

  const Profile& profile_;
  std::string root_;
  std::unordered_map<uint32_t, Module> modules_;             // by index
  std::unordered_map<uint32_t, std::vector<Frame>> frames_;  // by call
};

// The root for Symbols: of a process that runs in another mount namespace, or whose record was
// found by way of /proc/PID/root.
std::string root_of(const std::string& record_file, int64_t pid, bool is_live);

}  // namespace tally::tool
