// What each C library does in its own way: libc_glibc.cpp and libc_musl.cpp implement this header,
// and the build takes the one that fits.
//
// Its own malloc: blocks of it reach us from before we started, from plug-ins that were loaded with
// RTLD_DEEPBIND, and from programs that call __libc_malloc; and it may be what Tally takes its
// memory from. And its dynamic linker.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core::os {

// True if p looks in every respect like a live block of glibc's. Reads only what can be read. Slow.
bool libc_owns(const void* p);
// For pointers of which libc_owns said yes.
void libc_free(void* p);
void* libc_realloc(void* p, size_t bytes);
size_t libc_usable_size(const void* p);

// A program or shared object that is loaded.
struct Module {
  const void* id = nullptr;  // no other has it while this one is loaded
  uintptr_t start = 0, end = 0;
  const void* unwinding = nullptr;  // its .eh_frame_hdr; nullptr: it has none

  bool contains(const void* address) const {
    return reinterpret_cast<uintptr_t>(address) - start < end - start;
  }
};
// In which this code or data lies, and which is not unloaded meanwhile; false: in none. Takes no
// lock (with musl: but for what was not found before); some ten nanoseconds.
bool find_module(const void* address, Module* module);
// Whether that may be asked before constructors run.
bool finds_modules_early();
// The dynamic linker, as far as it allocates by our malloc where it loads another; in a static
// program that is the program itself. One without code: it does not, and unloads nothing.
Module loader_module();
// Its name for others to find it by, or that of its file, without folders; cut to what fits, ended
// by 0. Returns whether it is the program.
bool module_name(const Module& module, char* name, size_t capacity);
// Of its file as the linker opened it; empty: the program; "[vdso]": the kernel's. While the module
// is loaded.
const char* module_path(const Module& module);
// Its addresses less those in its file's program headers.
uintptr_t module_bias(const Module& module);
// Where the first thread's stack begins, above all that lies on it.
uintptr_t main_stack_top();

// Around fork. In the midst of it, when our handlers are through, libc takes the lock of its list
// of streams; who holds that may wait for a stream, and who holds the stream, in getline, for a
// lock of ours. So whoever is to take ours takes that before. Nothing where there is but one
// thread.
void hold_streams();
void let_go_of_streams();
// In the child.
void reset_streams();

// Whether it can be called by names that Tally does not take. Called before libc_held_bytes.
bool has_libc();
// nullptr: there is no memory, or no such libc.
void* libc_aligned(size_t alignment, size_t bytes);
// Bytes that it has from the system.
size_t libc_held_bytes();

// In English, and always the same.
const char* error_text(int error);

}  // namespace tally::core::os
