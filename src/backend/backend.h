// Where chunks and the largest blocks come from. The pools above are the same over each.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tally::core {

// What a source of memory must do; backend:: below is how it is used. Sizes are multiples of the
// page size, alignments powers of two of at least a page. Any thread may call, holding locks of
// ours; what a call itself allocates by malloc is not served by Tally (see backend::is_inside).
// errno may change.
struct Backend {
  const char* name;
  // What the user is to do if it is not there.
  const char* how_to_load;

  // Whether it is loaded with the program. Called once, with no lock held, before any other: what
  // it does at its first use, it does here.
  bool (*is_loaded)();
  // `bytes`, aligned, readable and writable, to be given back whole; nullptr if there are none. The
  // content is unknown unless it `gives_zeroed`. Its pages must be private memory that
  // backend::purge may drop while they are ours, and that may be advised to be huge.
  void* (*take)(size_t bytes, size_t alignment);
  // Takes back what take or resize gave. False if it could not: the memory stays ours.
  bool (*give)(void* p, size_t bytes);
  // What it holds beyond the `taken` bytes that it gave us, for itself or for later; 0 if it does
  // not tell. May be missing.
  uint64_t (*surplus_bytes)(uint64_t taken);
  // That is resident memory, not address space of which an unknown part is.
  bool surplus_is_resident = false;

  bool gives_zeroed;
  // It deals in pages: any of them may be given back, alone or with their neighbours, and this
  // moves them: longer or shorter, content kept, new bytes zero; perhaps elsewhere, to the same
  // alignment. nullptr: all is as before. Missing where it does not.
  void* (*resize)(void* p, size_t bytes, size_t new_bytes, size_t alignment);
  bool by_pages() const { return resize != nullptr; }

  std::atomic<size_t> taken{0};  // any: bytes given to us and not given back
};

namespace backend {

extern constinit Backend os;        // mappings straight from the kernel
extern constinit Backend libc;      // glibc's malloc
extern constinit Backend jemalloc;  // of version 5, by its own interface, mallocx and dallocx
extern constinit Backend mimalloc;  // of version 2 or 3, by mi_malloc_aligned and mi_free

// Of this name; nullptr if there is none.
Backend* find(const char* name);
// From now on memory comes from there. Until then it comes from `os`, and goes back there.
void select(Backend* backend);
Backend* selected();
// Where memory is to come from now: the selected one, but `os` while this thread prepares a fork,
// as it may hold the other's locks then.
Backend* source();

// ---- Checked calls: errno is kept, what is taken is counted, aligned and all zero.

void* take(Backend* from, size_t bytes, size_t alignment);
// Gives back what take or resize gave: whole, or of a backend that deals in pages some of them. The
// pages go to the system, whatever the backend keeps. False: it could not.
bool give(Backend* from, void* p, size_t bytes);
// nullptr: all is as before.
void* resize(Backend* from, void* p, size_t bytes, size_t new_bytes, size_t alignment);
// As take, exactly there, where a part was given back to `os` before. False: it is somebody else's
// by now.
bool take_again(void* p, size_t bytes);
// Part of what was taken, whole pages: drops the content, keeps the addresses, which read as zero
// from now on. False: refused; a part of the content may be gone.
bool purge(void* p, size_t bytes);
// A hint, as os::prefer_huge_pages.
void prefer_huge_pages(void* p, size_t bytes, bool yes);

// The running thread is in a call of a backend, perhaps with locks of ours, or a signal handler
// that interrupted a step with one: what it allocates now must not come from us.
bool is_inside();

// Bytes taken and not given back, of all backends.
size_t held_bytes();
// What the selected one held beyond what it gave when it was last asked; 0 if that is not known.
uint64_t surplus_bytes();
// Asks it, if that was not done in the last second, or now. Not for a signal handler: it takes
// locks that whoever was interrupted may hold, in the midst of a fork too.
void ask_surplus(bool now = false);

}  // namespace backend
}  // namespace tally::core
