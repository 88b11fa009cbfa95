#include "symbol_file.h"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <optional>
#include <tuple>
#include <unordered_map>

namespace tally::tool {
namespace {

// What lies at addresses, by binary search. Of ranges that overlap the one that begins last holds,
// and of those that begin at the same address the one that was added last.
template <class Value>
class AddressMap {
 public:
  void add(uint64_t start, uint64_t end, Value value) {
    if (start < end) ranges_.push_back({start, end, std::move(value)});
  }
  void sort() {
    std::stable_sort(ranges_.begin(), ranges_.end(),
                     [](const Range& one, const Range& other) { return one.start < other.start; });
  }
  Value* find(uint64_t address) {
    auto after =
        std::upper_bound(ranges_.begin(), ranges_.end(), address,
                         [](uint64_t wanted, const Range& range) { return wanted < range.start; });
    if (after == ranges_.begin() || address >= after[-1].end) return nullptr;
    return &after[-1].value;
  }

 private:
  struct Range {
    uint64_t start, end;
    Value value;
  };
  std::vector<Range> ranges_;
};

// What may yet be done for a file, whatever it says: what is not known by then stays unknown.
class Effort {
 public:
  // A step of the work: it looks at an entry, or at a range of addresses. False: no more.
  bool goes_on() {
    if (steps_left_ == 0) return false;
    // A step may be one over all of the file.
    constexpr size_t kBetweenLooks = 8;
    if (--steps_left_ % kBetweenLooks == 0 && now_ns() - begun_ns_ > ns_left_) steps_left_ = 0;
    return steps_left_ != 0;
  }
  bool is_over() const { return steps_left_ == 0 || ns_left_ == 0; }
  void begin() { begun_ns_ = now_ns(); }
  void end() { ns_left_ -= std::min(ns_left_, now_ns() - begun_ns_); }

 private:
  // Of the processor, so that a busy machine makes no difference.
  static uint64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return uint64_t(now.tv_sec) * 1'000'000'000 + uint64_t(now.tv_nsec);
  }

  size_t steps_left_ = 16'000'000;  // those of a browser are fewer
  uint64_t ns_left_ = 30'000'000'000;
  uint64_t begun_ns_ = 0;
};

// Of code that the linker left out, the debug information stays, at 0.
void each_range(Dwarf_Die* die, Effort* effort,
                const std::function<void(uint64_t, uint64_t)>& visit) {
  Dwarf_Addr base = 0, start = 0, end = 0;
  for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &start, &end)) > 0;) {
    if (!effort->goes_on()) return;
    if (start != 0) visit(start, end);
  }
}

// A sibling that is said to lie before is none: round and round it would go. To find the next one
// libdw reads all that is nested in an entry, so a file's entries cost more than they are.
void each_child(Dwarf_Die* die, Effort* effort, const std::function<bool(Dwarf_Die*)>& visit) {
  Dwarf_Die child;
  Dwarf_Off before = 0;
  for (int more = dwarf_child(die, &child); more == 0; more = dwarf_siblingof(&child, &child)) {
    if (dwarf_dieoffset(&child) <= before || !effort->goes_on() || !visit(&child)) return;
    before = dwarf_dieoffset(&child);
  }
}

using Demangled = std::unique_ptr<char, decltype(&free)>;
Demangled demangle(const std::string& name) {
  return {abi::__cxa_demangle(name.c_str(), nullptr, nullptr, nullptr), free};
}

// What stands for something before it in a mangled name: "S_", "S1A_", "T_", "T0_".
struct Reference {
  size_t at, length;
  bool is_in_word;  // as it seems: of an identifier
};
std::vector<Reference> references_of(const std::string& name) {
  std::vector<Reference> references;
  size_t word_ends = 0;
  for (size_t at = 2; at < name.size(); ++at) {
    if (name[at] == 'S' || name[at] == 'T') {
      const size_t end = name.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", at + 1);
      if (end == std::string::npos || name[end] != '_') continue;
      // "aSERS1_" is no reference but has one: no name has so many parts.
      if (end - at > 3 && name.find_first_of("ST", at + 1) < end) continue;
      references.push_back({at, end + 1 - at, at < word_ends});
      at = end;
    } else if (at >= word_ends && name[at] >= '1' && name[at] <= '9') {
      const bool is_number =  // "A8_", "Lj8E"
          name[at - 1] == 'A' || (name[at - 2] == 'L' && islower(name[at - 1]) != 0);
      size_t length = 0;
      for (; at < name.size() && name[at] >= '0' && name[at] <= '9'; ++at) {
        length = std::min(length * 10 + static_cast<size_t>(name[at] - '0'), name.size());
      }
      word_ends = at-- + (is_number ? 0 : length);
    }
  }
  return references;
}

// The name with the references from the n-th on replaced by small things that are numbered alike:
// a substitution by one, a template's parameter by a name; what is no identifier after all does
// not pass with a '$'.
std::string name_with(const std::string& name, const std::vector<Reference>& references, size_t n) {
  std::string text;
  size_t from = 0;
  for (; n < references.size(); ++n) {
    const Reference& one = references[n];
    text.append(name, from, one.at - from);
    if (one.is_in_word) {
      text.append("$").append(name, one.at + 1, one.length - 1);
    } else {
      text.append(name[one.at] == 'S' ? "Ss" : "1x");
    }
    from = one.at + one.length;
  }
  return text.append(name, from);
}

// Each reference may double what comes before it: a name of 150 bytes may be one of gigabytes.
// With so many that it might, they are let in one at a time while the whole remains small. Those
// that change nothing yet are of parts that are not shown, but may be referred to later.
bool is_small(const std::string& name) {
  constexpr size_t kMost = 64 * 1024, kNameMost = 16 * 1024, kReferencesMost = 1000;
  const std::vector<Reference> references = references_of(name);
  if (references.size() < 8 && name.size() < 1024) return true;
  if (references.size() > kReferencesMost || name.size() > kNameMost) return false;
  size_t hidden = 0;
  std::string before;
  for (size_t n = 0; n <= references.size(); ++n) {
    const Demangled text = demangle(name_with(name, references, n));
    if (text == nullptr) return false;
    const bool is_hidden = n != 0 && !references[n - 1].is_in_word && before == text.get();
    before = text.get();
    hidden += is_hidden ? 1 : 0;
    if (before.size() > kMost || hidden > 16 || before.size() << hidden > kMost * 64) return false;
  }
  return true;
}

// As it is where it would be too long.
std::string demangled(const char* name) {
  if (strncmp(name, "_Z", 2) != 0 || !is_small(name)) return name;
  const Demangled text = demangle(name);
  return text ? text.get() : name;
}

// As the linker knows a function, or one that is inlined; nullptr: it does not.
const char* linkage_name_of(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  for (unsigned kind : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
    if (dwarf_attr_integrate(die, kind, &attribute) == nullptr) continue;
    if (const char* name = dwarf_formstring(&attribute)) return name;
  }
  return nullptr;
}

// Where a function was declared, of its code or of where it is inlined.
Dwarf_Die declaration_of(Dwarf_Die die) {
  Dwarf_Attribute attribute;
  constexpr int kMost = 8;  // whatever the file says
  for (int i = 0; i < kMost; ++i) {
    const bool goes_on = dwarf_attr(&die, DW_AT_abstract_origin, &attribute) != nullptr ||
                         dwarf_attr(&die, DW_AT_specification, &attribute) != nullptr;
    if (!goes_on || dwarf_formref_die(&attribute, &die) == nullptr) break;
  }
  return die;
}

uint64_t number_of(Dwarf_Die* die, unsigned kind) {
  Dwarf_Attribute attribute;
  Dwarf_Word number = 0;
  const bool has =
      dwarf_attr(die, kind, &attribute) != nullptr && dwarf_formudata(&attribute, &number) == 0;
  return has ? number : 0;
}

constexpr int kDepthMost = 64;  // of entries in entries, whatever the file says

// A compilation unit: the code of one source file.
class Unit {
 public:
  // `lines` has its line table, `functions` what it consists of; with split debug information they
  // lie in two files.
  Unit(const Dwarf_Die& lines, const Dwarf_Die& functions, Effort* effort)
      : lines_(lines), top_(functions), effort_(effort) {}

  std::vector<Frame> at(uint64_t address) {
    if (!has_functions_) {
      add_functions(&top_, "", 0);
      functions_.sort();
      has_functions_ = true;
    }
    Frame place;
    place_of(address, &place);
    const Dwarf_Die* function = functions_.find(address);
    if (function == nullptr) return place.line == 0 ? std::vector<Frame>() : std::vector{place};
    std::vector<Dwarf_Die> nest = nest_at(*function, address);
    std::vector<Frame> frames;
    for (; !nest.empty(); nest.pop_back()) {
      Dwarf_Die* die = &nest.back();
      place.function = name_of(die);
      place.is_inlined = nest.size() > 1;
      frames.push_back(place);
      place.file = file_name(number_of(die, DW_AT_call_file));
      place.line = static_cast<uint32_t>(number_of(die, DW_AT_call_line));
    }
    return frames;
  }

 private:
  // `scope`: "shop::Shelf::".
  void add_functions(Dwarf_Die* parent, const std::string& scope, int depth) {
    constexpr size_t kScopeMost = 1024;
    each_child(parent, effort_, [&](Dwarf_Die* die) {
      const char* name = dwarf_diename(die);
      switch (dwarf_tag(die)) {
        case DW_TAG_subprogram:
          each_range(die, effort_,
                     [&](uint64_t start, uint64_t end) { functions_.add(start, end, *die); });
          if (!scope.empty()) scopes_.emplace(dwarf_dieoffset(die), scope);
          break;
        case DW_TAG_namespace:
        case DW_TAG_module:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
          if (depth == kDepthMost) break;
          if (name == nullptr) name = "(anonymous namespace)";
          add_functions(die, scope.size() + strlen(name) > kScopeMost ? scope : scope + name + "::",
                        depth + 1);
      }
      return true;
    });
  }

  // Functions that no other file sees need not have a linkage name.
  std::string name_of(Dwarf_Die* die) const {
    if (const char* name = linkage_name_of(die)) return demangled(name);
    const char* name = dwarf_diename(die);
    if (name == nullptr) return "";
    Dwarf_Die declaration = declaration_of(*die);
    auto scope = scopes_.find(dwarf_dieoffset(&declaration));
    return scope == scopes_.end() ? name : scope->second + name;
  }

  // The function, and those inlined in it at this address, outermost first.
  std::vector<Dwarf_Die> nest_at(Dwarf_Die function, uint64_t address) const {
    std::vector<Dwarf_Die> nest = {function};
    bool goes_on = true;
    for (int depth = 0; goes_on && depth < kDepthMost; ++depth) {
      goes_on = false;
      Dwarf_Die scope = function;
      each_child(&scope, effort_, [&](Dwarf_Die* die) {
        const int tag = dwarf_tag(die);
        const bool is_inlined = tag == DW_TAG_inlined_subroutine;
        const bool is_scope = is_inlined || tag == DW_TAG_lexical_block ||
                              tag == DW_TAG_try_block || tag == DW_TAG_catch_block;
        if (!is_scope || dwarf_haspc(die, address) <= 0) return true;
        if (is_inlined) nest.push_back(*die);
        function = *die;
        goes_on = true;
        return false;
      });
    }
    return nest;
  }

  void place_of(uint64_t address, Frame* frame) {
    Dwarf_Line* line = dwarf_getsrc_die(&lines_, address);
    if (line == nullptr) return;
    int number = 0;
    dwarf_lineno(line, &number);
    frame->line = static_cast<uint32_t>(number);
    const char* file = dwarf_linesrc(line, nullptr, nullptr);
    if (file != nullptr) frame->file = file;
  }

  std::string file_name(uint64_t index) {
    Dwarf_Files* files = nullptr;
    size_t count = 0;
    if (dwarf_getsrcfiles(&top_, &files, &count) != 0 || index >= count) return "";
    const char* name = dwarf_filesrc(files, index, nullptr, nullptr);
    return name == nullptr ? "" : name;
  }

  Dwarf_Die lines_, top_;
  Effort* effort_;
  bool has_functions_ = false;
  AddressMap<Dwarf_Die> functions_;
  std::unordered_map<Dwarf_Off, std::string> scopes_;  // of functions' declarations
};

class DwflFile final : public SymbolFile {
 public:
  DwflFile() {
    static constexpr Dwfl_Callbacks kCallbacks = {
        .find_elf = nullptr,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = nullptr,
    };
    dwfl_ = dwfl_begin(&kCallbacks);
  }
  ~DwflFile() override { dwfl_end(dwfl_); }
  DwflFile(const DwflFile&) = delete;
  DwflFile& operator=(const DwflFile&) = delete;

  bool read(const std::string& path, std::span<const uint8_t> build_id) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return false;
    struct stat status;
    const bool is_file = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
    if (is_file) module_ = dwfl_report_elf(dwfl_, path.c_str(), path.c_str(), file, 0, true);
    if (module_ == nullptr) {
      close(file);
      return false;
    }
    dwfl_report_end(dwfl_, nullptr, nullptr);  // the file is libdw's now
    const unsigned char* bytes = nullptr;
    GElf_Addr where = 0;
    const int count = dwfl_module_build_id(module_, &bytes, &where);
    const bool is_it =
        count > 0 && std::equal(build_id.begin(), build_id.end(), bytes, bytes + count);
    return build_id.empty() || is_it;
  }

  std::vector<Frame> at(uint64_t address) override {
    effort_.begin();
    if (!has_units_) read_units();
    std::vector<Frame> frames;
    const std::shared_ptr<Unit>* unit = units_.find(address - bias_);
    if (unit != nullptr && !effort_.is_over()) frames = (*unit)->at(address - bias_);
    effort_.end();
    // Without a name: of assembler there are lines alone.
    if (frames.empty()) frames.emplace_back();
    Frame& outermost = frames.back();
    if (outermost.function.empty()) outermost.function = symbol_at(address);
    if (outermost.function.empty()) return {};
    for (Frame& frame : frames) {
      if (frame.function.empty()) frame.function.push_back('?');
    }
    return frames;
  }

 private:
  void read_units() {
    has_units_ = true;
    Dwarf* dwarf = dwfl_module_getdwarf(module_, &bias_);
    Dwarf_CU* unit = nullptr;
    Dwarf_Die lines, functions;
    uint8_t kind;
    while (dwarf != nullptr && effort_.goes_on() &&
           dwarf_get_units(dwarf, unit, &unit, nullptr, &kind, &lines, &functions) == 0) {
      if (kind != DW_UT_compile && kind != DW_UT_skeleton) continue;
      const bool is_split = kind == DW_UT_skeleton && dwarf_tag(&functions) != DW_TAG_invalid;
      auto shared = std::make_shared<Unit>(lines, is_split ? functions : lines, &effort_);
      each_range(&lines, &effort_,
                 [&](uint64_t start, uint64_t end) { units_.add(start, end, shared); });
    }
    units_.sort();
  }

  std::string symbol_at(uint64_t address) {
    if (!has_symbols_) read_symbols();
    const char* const* name = symbols_.find(address);
    return name == nullptr ? "" : demangled(*name);
  }

  void read_symbols() {
    has_symbols_ = true;
    struct Symbol {
      uint64_t start, end;
      const char* name;
      // Of several names of a function the last by this is the one to show.
      std::tuple<bool, bool> rank() const { return {*name != '_' || name[1] == 'Z', is_global}; }
      bool is_global;
    };
    std::vector<Symbol> symbols;
    const int count = dwfl_module_getsymtab(module_);
    for (int i = 1; i < count; ++i) {
      GElf_Sym symbol;
      GElf_Addr start = 0;
      const char* name =
          dwfl_module_getsym_info(module_, i, &symbol, &start, nullptr, nullptr, nullptr);
      const int type = GELF_ST_TYPE(symbol.st_info);
      const bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC;
      if (name == nullptr || *name == 0 || !is_function || symbol.st_shndx == SHN_UNDEF) continue;
      // Of assembler the size is not always told: up to the next one.
      const uint64_t end = symbol.st_size == 0 ? UINT64_MAX : start + symbol.st_size;
      symbols.push_back({start, end, name, GELF_ST_BIND(symbol.st_info) != STB_LOCAL});
    }
    std::sort(symbols.begin(), symbols.end(),
              [](const Symbol& one, const Symbol& other) { return one.rank() < other.rank(); });
    for (const Symbol& symbol : symbols) symbols_.add(symbol.start, symbol.end, symbol.name);
    symbols_.sort();
  }

  Dwfl* dwfl_;
  Dwfl_Module* module_ = nullptr;
  bool has_units_ = false, has_symbols_ = false;
  Effort effort_;
  Dwarf_Addr bias_ = 0;  // of the debug information's addresses
  AddressMap<std::shared_ptr<Unit>> units_;
  AddressMap<const char*> symbols_;
};

}  // namespace

std::unique_ptr<SymbolFile> SymbolFile::open(const std::string& path,
                                             std::span<const uint8_t> build_id) {
  auto file = std::make_unique<DwflFile>();
  if (!file->read(path, build_id)) return nullptr;
  return file;
}

}  // namespace tally::tool
