// Of this program's own functions, which is why it is built with debug information.
#include "symbols.h"

#include <gtest/gtest.h>
#include <link.h>
#include <stdlib.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>

#include "symbol_file.h"

extern "C" const char __executable_start, etext;  // the linker's

// Where a call returns to, and the line that it is in.
struct Place {
  uint64_t address = 0;
  unsigned line = 0;
};

namespace tally::core {

[[gnu::noinline]] void take(Place* place) {
  place->address = reinterpret_cast<uint64_t>(__builtin_return_address(0));
  asm volatile("" ::: "memory");
}

// As Tally's own code lies in a program that it is linked into.
[[gnu::noinline]] void allocate_for_test(Place* own, Place* callers) {
  callers->address = reinterpret_cast<uint64_t>(__builtin_return_address(0));
  take(own);
  asm volatile("" ::: "memory");
}

}  // namespace tally::core

namespace shop {
namespace {

template <class Item>
[[gnu::always_inline]] inline void put(Item, Place* place) {
  place->line = __LINE__ + 1;
  tally::core::take(place);
}

struct Shelf {
  [[gnu::always_inline]] void fill(Place* place, unsigned* line) {
    *line = __LINE__ + 1;
    put(1, place);
  }
};

[[gnu::noinline]] void open_shop(Place* inner, Place* outer) {
  Shelf shelf;
  outer->line = __LINE__ + 1;
  shelf.fill(inner, &inner[1].line);
  asm volatile("" ::: "memory");
}

[[gnu::noinline]] void allocate(Place* own, Place* callers) {
  tally::core::allocate_for_test(own, callers);
  asm volatile("" ::: "memory");
}

}  // namespace
}  // namespace shop

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

// This program's.
struct Own {
  std::string path = fs::read_symlink("/proc/self/exe");
  uint64_t bias = 0;
  std::string build_id;

  Own() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          auto* own = static_cast<Own*>(data);
          own->bias = info->dlpi_addr;
          for (const ElfW(Phdr) & segment : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
            if (segment.p_type == PT_NOTE)
              own->read_notes(info->dlpi_addr + segment.p_vaddr, segment.p_memsz);
          }
          return 1;  // the first is the program
        },
        this);
  }

 private:
  void read_notes(uint64_t at, uint64_t bytes) {
    for (const uint64_t end = at + bytes; at < end;) {
      const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(at);
      const char* name = reinterpret_cast<const char*>(note + 1);
      const char* text = name + (note->n_namesz + 3) / 4 * 4;
      if (note->n_type == NT_GNU_BUILD_ID && strcmp(name, "GNU") == 0) {
        build_id.assign(text, note->n_descsz);
      }
      at = reinterpret_cast<uint64_t>(text) + (note->n_descsz + 3) / 4 * 4;
    }
  }
};

class SymbolsOfOwn : public testing::Test {
 protected:
  SymbolsOfOwn() { folder_ = mkdtemp(folder_.data()); }
  ~SymbolsOfOwn() override { fs::remove_all(folder_); }

  // A profile with calls of a file that is as this program was loaded.
  Profile profile_of(const std::string& path, const std::vector<uint64_t>& stack) const {
    Profile profile;
    profile.calls.emplace_back();
    for (uint64_t address : stack) {
      profile.calls.push_back({address, uint32_t(profile.calls.size() - 1), 0});
    }
    record::Module module = {own_.bias, UINT64_MAX, own_.bias, 0, uint32_t(own_.build_id.size()),
                             {}};
    memcpy(module.build_id, own_.build_id.data(), own_.build_id.size());
    profile.modules.push_back(module);
    profile.texts.assign(path.c_str(), path.c_str() + path.size() + 1);
    return profile;
  }

  // A copy of this program, as objcopy with these arguments writes it.
  std::string copy(const std::string& name, const std::string& arguments) const {
    const std::string path = folder_ + "/" + name;
    EXPECT_EQ(system(("objcopy " + arguments + " " + own_.path + " " + path).c_str()), 0);
    return path;
  }

  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
  Own own_;
};

TEST_F(SymbolsOfOwn, AreFunctionsWithThoseInlinedAndTheirLines) {
  Place inner[2], outer;
  shop::open_shop(inner, &outer);
  const Profile profile = profile_of(own_.path, {inner[0].address});
  Symbols symbols(profile);
  const std::vector<Frame>& frames = symbols.frames_of(1);
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].function, "shop::(anonymous namespace)::put<int>");
  EXPECT_EQ(frames[1].function, "shop::(anonymous namespace)::Shelf::fill");
  EXPECT_EQ(frames[2].function, "shop::(anonymous namespace)::open_shop");
  EXPECT_EQ(frames[0].line, inner[0].line);
  EXPECT_EQ(frames[1].line, inner[1].line);
  EXPECT_EQ(frames[2].line, outer.line);
  for (const Frame& frame : frames) {
    EXPECT_TRUE(frame.file.ends_with("tests/tool/symbols_test.cpp")) << frame.file;
    EXPECT_EQ(frame.is_inlined, &frame != &frames[2]);
  }
  EXPECT_EQ(
      symbols.lines_of(1, 2),
      (std::vector<std::string>{"shop::(anonymous namespace)::put<int>  symbols_test.cpp:" +
                                    std::to_string(inner[0].line),
                                "shop::(anonymous namespace)::Shelf::fill  symbols_test.cpp:" +
                                    std::to_string(inner[1].line),
                                "... 1 more"}));
  EXPECT_TRUE(symbols.complaints().empty());
}

TEST_F(SymbolsOfOwn, LeaveTheAllocatorOut) {
  Place own, callers;
  shop::allocate(&own, &callers);
  const Profile profile = profile_of(own_.path, {callers.address, own.address});
  Symbols symbols(profile);
  EXPECT_EQ(symbols.frames_of(2)[0].function, "tally::core::allocate_for_test(Place*, Place*)");
  EXPECT_EQ(symbols.stack_of(2), (std::vector<uint32_t>{1}));
  const Profile all = profile_of(own_.path, {own.address});
  Symbols none(all);
  EXPECT_EQ(none.stack_of(1), (std::vector<uint32_t>{0}));
  EXPECT_EQ(none.frames_of(0)[0].function, "(unknown)");
  const Profile library = profile_of("/nowhere/libtally.so.0", {own.address});
  Symbols of_library(library);
  EXPECT_EQ(of_library.stack_of(1), (std::vector<uint32_t>{0}));
}

TEST_F(SymbolsOfOwn, AreOfTheSymbolTableWithoutDebugInformation) {
  Place inner[2], outer;
  shop::open_shop(inner, &outer);
  const std::string path = copy("stripped", "--strip-debug");
  const Profile profile = profile_of(path, {inner[0].address});
  Symbols symbols(profile);
  ASSERT_EQ(symbols.frames_of(1).size(), 1u);
  // Perhaps a clone of it.
  constexpr char kName[] = "shop::(anonymous namespace)::open_shop(Place*, Place*)";
  EXPECT_TRUE(symbols.frames_of(1)[0].function.starts_with(kName));
  EXPECT_EQ(symbols.frames_of(1)[0].line, 0u);
  EXPECT_TRUE(symbols.lines_of(1, 0)[0].ends_with("  stripped"));
}

TEST_F(SymbolsOfOwn, MayBeInADebugFile) {
  Place inner[2], outer;
  shop::open_shop(inner, &outer);
  const std::string debug = copy("own.debug", "--only-keep-debug");
  const std::string path = copy("own", "--strip-all --add-gnu-debuglink=" + debug);
  const Profile profile = profile_of(path, {inner[0].address});
  EXPECT_EQ(Symbols(profile).frames_of(1).size(), 3u);
  fs::remove(debug);
  Symbols symbols(profile);
  char offset[32];
  snprintf(offset, sizeof offset, "own+0x%llx",
           static_cast<unsigned long long>(inner[0].address - 1 - own_.bias));
  EXPECT_EQ(symbols.lines_of(1, 0), std::vector<std::string>{offset});
  EXPECT_EQ(symbols.complaints(),
            std::vector<std::string>{
                "some functions are not known for want of debug files (in /usr/lib/debug, or on a "
                "server that DEBUGINFOD_URLS names): " +
                path});
}

TEST_F(SymbolsOfOwn, AreNotThoseOfAnotherFile) {
  Place inner[2], outer;
  shop::open_shop(inner, &outer);
  Profile profile = profile_of(own_.path, {inner[0].address});
  profile.modules[0].build_id[3] ^= 1;
  Symbols symbols(profile);
  EXPECT_TRUE(symbols.frames_of(1)[0].function.starts_with("tool_symbols+0x"));
  EXPECT_EQ(symbols.complaints(),
            std::vector<std::string>{"functions are not known of files that were replaced since: " +
                                     own_.path});

  // No file at all, and one that would block who opens it.
  profile.modules[0].build_id_bytes = 0;
  for (const char* path : {"/dev/zero", "/proc/self/comm", "/etc"}) {
    EXPECT_EQ(SymbolFile::open(path, {}), nullptr) << path;
  }
  const std::string pipe = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(SymbolFile::open(pipe, {}), nullptr);
}

TEST_F(SymbolsOfOwn, AreWhereTheProcessHasItsRoot) {
  Place inner[2], outer;
  shop::open_shop(inner, &outer);
  const std::string path = copy("inside", "");
  const Profile profile = profile_of("/inside", {inner[0].address});
  EXPECT_EQ(Symbols(profile, folder_).frames_of(1).size(), 3u);
  EXPECT_EQ(root_of("/proc/12/root/dev/shm/tally-0/7.tally", 7, true), "/proc/12/root");
  EXPECT_EQ(root_of("/dev/shm/tally-0/7.tally", getpid(), true), "");
}

// A file of assembler: a function, and what more it consists of.
class SymbolsOfHostile : public SymbolsOfOwn {
 protected:
  void SetUp() override {
    if (system("as --version > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "as is not installed (Debian: binutils)";
    }
  }

  // What it is named.
  std::string function_of(const std::string& symbol, const std::string& more = "") {
    const std::string path = folder_ + "/a.o";
    std::ofstream(folder_ + "/a.s")
        << ".globl " << symbol << "\n.type " << symbol << ", @function\n.fill 16\nstart:\n"
        << symbol << ":\n.fill 16\n.size " << symbol << ", 16\n"
        << more;
    EXPECT_EQ(system(("as -o " + path + " " + folder_ + "/a.s").c_str()), 0);
    const std::vector<Frame> frames = SymbolFile::open(path, {})->at(24);
    return frames.empty() ? "" : frames.back().function;
  }
};

// Debug information: a unit that holds these entries, of these kinds beside its own.
std::string unit_of(const std::string& kinds, const std::string& entries) {
  return R"(
 .section .debug_abbrev,"",@progbits
 .byte 1,0x11,1, 0x11,0x01, 0x12,0x07, 0,0
)" + kinds +
         R"(
 .byte 0
 .section .debug_info,"",@progbits
unit: .long end - begin
begin: .short 4
 .long .debug_abbrev
 .byte 8,1
 .quad start, 16
)" + entries +
         "\nend:\n";
}

TEST_F(SymbolsOfHostile, NestNoDeeperThanAnyProgram) {
  // A unit that has namespaces in namespaces, or one whose sibling is itself.
  const std::string kinds = " .byte 2,0x39,1, 0,0\n .byte 3,0x39,1, 0x01,0x13, 0,0";
  EXPECT_EQ(function_of("f", unit_of(kinds, ".fill 300000,1,2\n.fill 300001,1,0")), "f");
  EXPECT_EQ(function_of("f", unit_of(kinds, "x: .byte 3\n.long x - unit\n.byte 0,0,0")), "f");
}

// Each look at a function of two million blocks is one at all of them: some are had, not thousands.
TEST_F(SymbolsOfHostile, CostNoMoreThanThoseOfAnyProgram) {
  const std::string kinds = " .byte 2,0x2e,1, 0x11,0x01, 0x12,0x07, 0,0\n .byte 3,0x0b,0, 0,0";
  const std::string entries = " .byte 2\n .quad start, 16\n .fill 2000000,1,3\n .byte 0,0";
  EXPECT_EQ(function_of("f", unit_of(kinds, entries)), "f");
  const auto file = SymbolFile::open(folder_ + "/a.o", {});
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(file->at(24).back().function, "f");
}

TEST_F(SymbolsOfHostile, HaveTheirMangledNameWhereItStandsForTooMuch) {
  // Each argument is of two of the one before, here of 26, there of five.
  constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQ";
  auto doubled = [&](int times) {
    std::string name = "_Z1f1a1bIS_S_E";
    for (int i = 1; i <= times; ++i) {
      const std::string last = std::string("S") + kDigits[i] + "_";
      name += "S0_I" + last + last + "E";
    }
    return name;
  };
  const std::string some = function_of(doubled(5));
  EXPECT_TRUE(some.starts_with("f(a, b<a, a>, b<b<a, a>, b<a, a> >")) << some;
  EXPECT_EQ(function_of(doubled(26)), doubled(26));

  // What a function template returns is not shown of what it has inside: here 25 times doubled.
  const std::string hidden = "_ZZ1gI1aEPF" + doubled(25).substr(strlen("_Z1f1a")) + "vEN1xE1zISP_E";
  EXPECT_EQ(function_of(hidden), hidden);

  // As ordinary names are: of a thousand letters, the same types time and again.
  std::string name = "_Z10STATUS_LOGSt5arrayI3fooLj8EE";
  std::string shown = "STATUS_LOG(std::array<foo, 8u>";
  for (int i = 0; i < 200; ++i) {
    name += i % 2 == 0 ? "S0_" : "RKS1_";
    shown += i % 2 == 0 ? ", foo" : ", std::array<foo, 8u> const&";
  }
  EXPECT_EQ(function_of(name), shown + ")");
}

// Of processor time: a busy machine is no fault of theirs.
TEST_F(SymbolsOfOwn, OfThousandsOfCallsTakeSeconds) {
  const uint64_t start = reinterpret_cast<uint64_t>(&__executable_start);
  const uint64_t end = reinterpret_cast<uint64_t>(&etext);
  constexpr size_t kCalls = 20'000;
  std::vector<uint64_t> addresses;
  for (size_t i = 0; i < kCalls; ++i) addresses.push_back(start + (end - start) / kCalls * i);
  const Profile profile = profile_of(own_.path, addresses);
  Symbols symbols(profile);
  const clock_t begun = clock();
  size_t lines = 0;
  for (uint32_t call = 1; call <= kCalls; ++call) {
    for (const Frame& frame : symbols.frames_of(call)) lines += frame.line != 0;
  }
  const double took = static_cast<double>(clock() - begun) / CLOCKS_PER_SEC;
  printf("%zu calls, %zu lines in %.3f s\n", kCalls, lines, took);
  EXPECT_GT(lines, 1000u);
  EXPECT_LT(took, 5);
}

}  // namespace
}  // namespace tally::tool
