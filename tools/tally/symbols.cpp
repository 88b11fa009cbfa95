#include "symbols.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <initializer_list>
#include <set>
#include <utility>

#include "symbol_file.h"
#include "text.h"

namespace tally::tool {
namespace {

std::string hex(uint64_t number) {
  char text[20];
  snprintf(text, sizeof text, "0x%" PRIx64, number);
  return text;
}

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Tally's functions that hand out blocks, where it is linked into the program.
bool is_allocators(const Frame& frame) {
  std::string_view name = frame.function;
  name = name.substr(0, name.find('('));
  return name.starts_with("operator new") || name.starts_with("tally::core::") ||
         is_one_of(name, {"tally_malloc", "tally_calloc", "tally_realloc", "tally_aligned_alloc",
                          "malloc", "calloc", "realloc", "reallocarray", "memalign", "valloc",
                          "pvalloc", "aligned_alloc", "posix_memalign"});
}

// "std::vector<int>::reserve" of "void std::vector<int>::reserve(unsigned long)": templates come
// with what they return.
std::string_view qualified_name(std::string_view function) {
  size_t start = 0;
  int depth = 0;
  for (size_t i = 0; i < function.size(); ++i) {
    const char c = function[i];
    if (c == '<') ++depth;
    if (c == '>') --depth;
    if (depth == 0 && c == ' ') start = i + 1;
    if (depth == 0 && c == '(') return function.substr(start, i - start);
  }
  return function.substr(start);
}

}  // namespace

bool is_cxx_librarys(const Frame& frame) {
  const std::string_view name = qualified_name(frame.function);
  return name.starts_with("std::") || name.starts_with("__gnu_cxx::");
}

Symbols::Symbols(const Profile& profile, std::string root)
    : profile_(profile), root_(std::move(root)) {}
Symbols::~Symbols() = default;

std::string_view Symbols::module_of(uint32_t call) const {
  const uint32_t index = call == 0 ? record::kNoModule : profile_.calls[call].module;
  return index == record::kNoModule ? "" : profile_.name(profile_.modules[index].path);
}

const std::vector<Frame>& Symbols::frames_of(uint32_t call) {
  auto [at, is_new] = frames_.try_emplace(call);
  if (!is_new) return at->second;
  at->second = call == 0 ? std::vector{Frame{.function = "(unknown)", .file = ""}}
                         : look_up(profile_.calls[call]);
  return at->second;
}

std::vector<Frame> Symbols::look_up(const record::Call& call) {
  // The address that is known is where the call returns to, which may be another function's.
  const uint64_t address = call.address - 1;
  if (call.module == record::kNoModule) return {{.function = hex(address), .file = ""}};
  const record::Module& of = profile_.modules[call.module];
  Module& module = open(call.module);
  std::vector<Frame> frames;
  if (module.file != nullptr) frames = module.file->at(address - of.bias);
  if (!frames.empty()) return frames;
  if (module.file != nullptr) module.lack = Lack::kSymbols;
  std::string name(last_part(profile_.name(of.path)));
  name.append("+").append(hex(address - of.bias));
  return {{.function = std::move(name), .file = ""}};
}

Symbols::Module& Symbols::open(uint32_t index) {
  auto [at, is_new] = modules_.try_emplace(index);
  Module& module = at->second;
  if (!is_new) return module;
  const record::Module& of = profile_.modules[index];
  const std::string_view name = profile_.name(of.path);
  if (!name.starts_with('/')) return module;  // the kernel's own, [vdso]
  const std::string path = root_ + std::string(name);
  module.file = SymbolFile::open(path, {of.build_id, of.build_id_bytes});
  if (module.file == nullptr) {
    module.lack = access(path.c_str(), F_OK) == 0 ? Lack::kReplaced : Lack::kGone;
  }
  return module;
}

std::vector<std::string> Symbols::complaints() const {
  constexpr std::pair<Lack, const char*> kReasons[] = {
      {Lack::kGone, "functions are not known of files that are not there: "},
      {Lack::kReplaced, "functions are not known of files that were replaced since: "},
      {Lack::kSymbols,
       "some functions are not known for want of debug files (in /usr/lib/debug, or on a server "
       "that DEBUGINFOD_URLS names): "}};
  std::vector<std::string> complaints;
  for (const auto& [lack, reason] : kReasons) {
    std::set<std::string> paths;  // a library may have been there twice
    for (const auto& [index, module] : modules_) {
      if (module.lack != lack) continue;
      paths.insert(printable(profile_.name(profile_.modules[index].path)));
    }
    constexpr size_t kShown = 5;
    std::string all;
    size_t shown = 0;
    for (const std::string& path : paths) {
      if (shown++ < kShown) all += (all.empty() ? "" : ", ") + path;
    }
    if (shown > kShown) all += " and " + std::to_string(shown - kShown) + " more";
    if (!all.empty()) complaints.push_back(reason + all);
  }
  return complaints;
}

bool Symbols::is_allocators(uint32_t call) {
  const auto module = last_part(module_of(call));
  if (module.starts_with("libtally.so") || module.starts_with("libtally-hardened.so")) return true;
  // The function that has the code: what is inlined there may have any name.
  return tool::is_allocators(frames_of(call).back());
}

std::vector<uint32_t> Symbols::stack_of(uint32_t call) {
  std::vector<uint32_t> calls;
  for (; call != 0; call = profile_.calls[call].caller) {
    if (!calls.empty() || !is_allocators(call)) calls.push_back(call);
  }
  if (calls.empty()) calls.push_back(0);
  return calls;
}

std::vector<std::string> Symbols::lines_of(uint32_t call, size_t most) {
  constexpr size_t kFunctionMost = 100;
  std::vector<std::string> lines;
  std::vector<std::string> librarys;
  for (uint32_t at : stack_of(call)) {
    for (const Frame& frame : frames_of(at)) {
      std::string place(last_part(frame.file.empty() ? module_of(at) : frame.file));
      if (frame.line != 0) place.append(":").append(std::to_string(frame.line));
      const bool is_named = frame.function.starts_with(place + "+");  // "libfoo.so.1+0x1234"
      std::string line = shortened(printable(frame.function), kFunctionMost);
      if (!is_named && !place.empty()) line += "  " + printable(place);
      const bool is_before = lines.empty() && is_cxx_librarys(frame);
      (is_before ? librarys : lines).push_back(std::move(line));
    }
  }
  if (lines.empty()) lines = std::move(librarys);
  const size_t left_out = most == 0 ? 0 : lines.size() - std::min(lines.size(), most);
  lines.resize(lines.size() - left_out);
  if (left_out != 0) lines.push_back("... " + std::to_string(left_out) + " more");
  return lines;
}

std::string root_of(const std::string& record_file, int64_t pid, bool is_live) {
  constexpr std::string_view kRoot = "/root";
  if (record_file.starts_with("/proc/")) {
    const size_t end = record_file.find(kRoot);
    if (end != record_file.npos) return record_file.substr(0, end + kRoot.size());
  }
  if (!is_live) return "";
  const std::string folder = "/proc/" + std::to_string(pid);
  struct stat own, its;
  const bool is_other = stat("/proc/self/ns/mnt", &own) == 0 &&
                        stat((folder + "/ns/mnt").c_str(), &its) == 0 && own.st_ino != its.st_ino;
  return is_other ? folder + std::string(kRoot) : "";
}

}  // namespace tally::tool
