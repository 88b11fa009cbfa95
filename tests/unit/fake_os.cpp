#include "fake_os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <cstddef>

// Itanium names of tally::core::os's functions: what the linker calls __real_ is os_linux.cpp's.
extern "C" {
size_t __real__ZN5tally4core2os9page_sizeEv();
bool __real__ZN5tally4core2os6forbidEPvm(void* p, size_t bytes);
bool __real__ZN5tally4core2os5allowEPvm(void* p, size_t bytes);
void __real__ZN5tally4core2os17prefer_huge_pagesEPvmb(void* p, size_t bytes, bool yes);
size_t __real__ZN5tally4core2os11resident_inEPKvm(const void* p, size_t bytes);
void* __real__ZN5tally4core2os3mapEmm(size_t bytes, size_t alignment);
bool __real__ZN5tally4core2os6map_atEPvm(void* p, size_t bytes);
bool __real__ZN5tally4core2os5unmapEPvm(void* p, size_t bytes);
bool __real__ZN5tally4core2os5purgeEPvm(void* p, size_t bytes);
void* __real__ZN5tally4core2os5remapEPvmmm(void* p, size_t bytes, size_t new_bytes,
                                           size_t alignment);
uint64_t __real__ZN5tally4core2os6now_msEv();
uint64_t __real__ZN5tally4core2os6now_nsENS1_5ClockE(int clock);
int __real__ZN5tally4core2os8write_atEiPKvmm(int fd, const void* from, size_t bytes,
                                             uint64_t offset);
}

namespace tally::fake_os {
namespace {

std::atomic<unsigned> g_which{0};
std::atomic<uint64_t> g_first{0}, g_end{0}, g_calls{0};
std::atomic<bool> g_clock_set{false};
std::atomic<uint64_t> g_clock{0}, g_skipped{0};
std::atomic<int> g_write_error{ENOSPC};
std::atomic<uint64_t> g_writes_to_go{0}, g_purges_to_go{0};
std::atomic<void (*)()> g_before_write{nullptr}, g_before_purge{nullptr};

size_t page_size() {
  static const char* text = getenv("TALLY_TEST_PAGE");
  static const size_t bytes =
      text == nullptr ? __real__ZN5tally4core2os9page_sizeEv() : strtoul(text, nullptr, 10);
  return bytes;
}

// As a kernel with pages of that size takes its arguments.
void expect_pages(const char* call, const void* p, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(p) | bytes) % page_size() == 0) return;
  fprintf(stderr, "os::%s(%p, %zu): not whole pages of %zu bytes\n", call, p, bytes, page_size());
  abort();
}

bool fails(Call call) {
  if ((g_which.load() & call) == 0) return false;
  uint64_t n = g_calls.fetch_add(1);
  return n >= g_first.load() && n < g_end.load();
}

}  // namespace

void fail(unsigned which, uint64_t skip, uint64_t count) {
  g_which.store(0);
  g_calls.store(0);
  g_first.store(skip);
  g_end.store(count > UINT64_MAX - skip ? UINT64_MAX : skip + count);
  g_which.store(which);
}

void set_write_error(int error) { g_write_error.store(error); }

void before_write(uint64_t nth, void (*function)()) {
  g_before_write.store(function);
  g_writes_to_go.store(nth);
}

void before_purge(uint64_t nth, void (*function)()) {
  g_before_purge.store(function);
  g_purges_to_go.store(nth);
}

void fail_none() { fail(kAll, 0, 0); }
uint64_t calls() { return g_calls.load(); }

void set_clock(uint64_t ms) {
  g_clock.store(ms);
  g_clock_set.store(true);
}
void advance_clock(uint64_t ms) {
  set_clock((g_clock_set.load() ? g_clock.load() : __real__ZN5tally4core2os6now_msEv()) + ms);
}

void skip_time(uint64_t ns) { g_skipped.store(ns); }

}  // namespace tally::fake_os

using namespace tally::fake_os;

extern "C" {

size_t __wrap__ZN5tally4core2os9page_sizeEv() { return page_size(); }
bool __wrap__ZN5tally4core2os6forbidEPvm(void* p, size_t bytes) {
  expect_pages("forbid", p, bytes);
  return __real__ZN5tally4core2os6forbidEPvm(p, bytes);
}
bool __wrap__ZN5tally4core2os5allowEPvm(void* p, size_t bytes) {
  expect_pages("allow", p, bytes);
  return __real__ZN5tally4core2os5allowEPvm(p, bytes);
}
void __wrap__ZN5tally4core2os17prefer_huge_pagesEPvmb(void* p, size_t bytes, bool yes) {
  expect_pages("prefer_huge_pages", p, bytes);
  __real__ZN5tally4core2os17prefer_huge_pagesEPvmb(p, bytes, yes);
}
size_t __wrap__ZN5tally4core2os11resident_inEPKvm(const void* p, size_t bytes) {
  expect_pages("resident_in", p, bytes);
  return __real__ZN5tally4core2os11resident_inEPKvm(p, bytes);
}
void* __wrap__ZN5tally4core2os3mapEmm(size_t bytes, size_t alignment) {
  expect_pages("map", reinterpret_cast<void*>(alignment), bytes);
  return fails(kMap) ? nullptr : __real__ZN5tally4core2os3mapEmm(bytes, alignment);
}
bool __wrap__ZN5tally4core2os6map_atEPvm(void* p, size_t bytes) {
  expect_pages("map_at", p, bytes);
  return !fails(kMapAt) && __real__ZN5tally4core2os6map_atEPvm(p, bytes);
}
bool __wrap__ZN5tally4core2os5unmapEPvm(void* p, size_t bytes) {
  expect_pages("unmap", p, bytes);
  return !fails(kUnmap) && __real__ZN5tally4core2os5unmapEPvm(p, bytes);
}
bool __wrap__ZN5tally4core2os5purgeEPvm(void* p, size_t bytes) {
  expect_pages("purge", p, bytes);
  if (g_purges_to_go.load() != 0 && g_purges_to_go.fetch_sub(1) == 1) g_before_purge.load()();
  if (!fails(kPurge)) return __real__ZN5tally4core2os5purgeEPvm(p, bytes);
  // As the kernel, which drops what comes before the locked page.
  __real__ZN5tally4core2os5purgeEPvm(p, bytes / 2 & ~(page_size() - 1));
  return false;
}
void* __wrap__ZN5tally4core2os5remapEPvmmm(void* p, size_t bytes, size_t new_bytes,
                                           size_t alignment) {
  expect_pages("remap", p, bytes | new_bytes);
  return fails(kRemap) ? nullptr
                       : __real__ZN5tally4core2os5remapEPvmmm(p, bytes, new_bytes, alignment);
}
int __wrap__ZN5tally4core2os8write_atEiPKvmm(int fd, const void* from, size_t bytes,
                                             uint64_t offset) {
  if (g_writes_to_go.load() != 0 && g_writes_to_go.fetch_sub(1) == 1) g_before_write.load()();
  if (!fails(kWriteAt)) {
    return __real__ZN5tally4core2os8write_atEiPKvmm(fd, from, bytes, offset);
  }
  // As the kernel, which writes what there is room for.
  __real__ZN5tally4core2os8write_atEiPKvmm(fd, from, bytes / 2, offset);
  return -g_write_error.load();
}
uint64_t __wrap__ZN5tally4core2os6now_nsENS1_5ClockE(int clock) {
  return __real__ZN5tally4core2os6now_nsENS1_5ClockE(clock) + g_skipped.load();
}
uint64_t __wrap__ZN5tally4core2os6now_msEv() {
  return g_clock_set.load() ? g_clock.load() : __real__ZN5tally4core2os6now_msEv();
}

}  // extern "C"
