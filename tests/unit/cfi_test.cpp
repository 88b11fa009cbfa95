#include "sample/cfi.h"

#include <link.h>
#include <sys/mman.h>

#include <cstring>

#include "base/math.h"
#include "os/libc.h"
#include "unit.h"

namespace tally::unit {
namespace {

namespace cfi = core::cfi;
using cfi::Kind;
using core::address;

core::os::Module own_module() {
  core::os::Module module;
  EXPECT_TRUE(core::os::find_module(reinterpret_cast<const void*>(&own_module), &module));
  return module;
}

cfi::Row row_in(const core::os::Module& module, const void* code) {
  return cfi::row_at(module.unwinding, module.start, module.end, address(code));
}

TEST(Cfi, AtItsEntryAFunctionHasOnlyTheReturnAddress) {
  cfi::Row row = row_in(own_module(), reinterpret_cast<const void*>(&row_in));
#if defined(__x86_64__)
  EXPECT_EQ(row.kind, Kind::kCall);
  EXPECT_EQ(row.by_fp, 0U);
  EXPECT_EQ(row.cfa, 1);
  EXPECT_EQ(row.ra, -1);
  EXPECT_EQ(row.has_fp, 0U);
#else
  EXPECT_EQ(row.kind, Kind::kNone) << "it is in a register";
#endif
}

TEST(Cfi, WhereThereIsNoFunctionThereIsNoRow) {
  core::os::Module module = own_module();
  EXPECT_EQ(row_in(module, reinterpret_cast<const void*>(module.start)).kind, Kind::kNone);
  EXPECT_EQ(row_in(module, reinterpret_cast<const void*>(module.end - 1)).kind, Kind::kNone);
  module.unwinding = nullptr;
  EXPECT_EQ(row_in(module, reinterpret_cast<const void*>(&row_in)).kind, Kind::kNone);
}

// The table and what it leads to, copied to the end of readable memory.
class Copy {
 public:
  Copy() : module_(own_module()) {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* self) {
          static_cast<Copy*>(self)->find_segment(*info);
          return 1;  // the program is the first
        },
        this);
    bytes_ = segment_end_ - address(module_.unwinding);
    mapped_ = core::round_up(bytes_, 4096) + 2 * size_t{4096};
    memory_ =
        static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + 4096, mapped_ - 2 * size_t{4096}, PROT_READ | PROT_WRITE);
    table_ = reinterpret_cast<uint8_t*>(memory_ + mapped_ - 4096 - bytes_);
    restore();
  }
  ~Copy() { munmap(memory_, mapped_); }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  void restore() { memcpy(table_, module_.unwinding, bytes_); }
  uint8_t* table() const { return table_; }
  size_t bytes() const { return bytes_; }
  cfi::Row row(uintptr_t code) const {
    return cfi::row_at(table_, address(table_), address(table_) + bytes_,
                       code - address(module_.unwinding) + address(table_));
  }
  const core::os::Module& module() const { return module_; }

 private:
  void find_segment(const dl_phdr_info& info) {
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const auto& segment = info.dlpi_phdr[i];
      uintptr_t start = info.dlpi_addr + segment.p_vaddr;
      if (segment.p_type == PT_LOAD && address(module_.unwinding) - start < segment.p_memsz) {
        segment_end_ = start + segment.p_memsz;
      }
    }
  }

  core::os::Module module_;
  uintptr_t segment_end_ = 0;
  size_t bytes_ = 0, mapped_ = 0;
  char* memory_ = nullptr;
  uint8_t* table_ = nullptr;
};

TEST(Cfi, ACopySaysTheSame) {
  Copy copy;
  size_t rows = 0;
  for (uintptr_t code = copy.module().start; code < copy.module().end; code += 13) {
    cfi::Row row = row_in(copy.module(), reinterpret_cast<const void*>(code));
    rows += row.kind == Kind::kCall ? 1 : 0;
    ASSERT_EQ(copy.row(code).word(), row.word()) << std::hex << code;
  }
  EXPECT_GT(rows, 1000U);
}

TEST(Cfi, WhateverTheTableSaysNothingElseIsRead) {
  Copy copy;
  Random random(7);
  const auto look = [&] {
    for (int i = 0; i < 20; ++i) {
      uintptr_t inside = random.below(copy.module().end - copy.module().start);
      copy.row(copy.module().start + inside);
    }
  };
  for (int round = 0; round < 300; ++round) {
    // From a byte here and there to every fourth.
    const size_t faults = copy.bytes() >> (2 + random.below(10));
    for (size_t i = 0; i < faults; ++i) {
      copy.table()[random.below(copy.bytes())] = static_cast<uint8_t>(random.next() >> 32);
    }
    look();
    if (round % 4 == 3) copy.restore();
  }
  // The table of contents whole, all else changed.
  uint32_t functions;
  memcpy(&functions, copy.table() + 8, sizeof functions);
  const size_t head = 12 + size_t{8} * functions;
  ASSERT_LT(head, copy.bytes());
  for (int round = 0; round < 300; ++round) {
    copy.restore();
    const uint64_t one_in = 1 + random.below(64);
    for (size_t i = head; i < copy.bytes(); ++i) {
      if (random.below(one_in) == 0) copy.table()[i] = static_cast<uint8_t>(random.next() >> 40);
    }
    look();
  }
}

TEST(Cfi, ATableThatIsCutIsNotFollowed) {
  Copy copy;
  for (size_t bytes = 0; bytes < 64; ++bytes) {
    uintptr_t end = address(copy.table()) + copy.bytes();
    uint8_t* table = reinterpret_cast<uint8_t*>(end - bytes);
    memcpy(table, copy.module().unwinding, bytes);
    cfi::row_at(table, address(table), end, address(table) + 100);
  }
}

}  // namespace
}  // namespace tally::unit
