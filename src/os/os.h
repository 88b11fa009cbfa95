// The operating system, as far as Tally needs it; files that stay open are in os/file.h. One .cpp
// of each header per system implements it, and these are alone in making system calls and including
// system headers. They know nothing of the heap.
//
// No function here allocates from a malloc or changes errno; none calls into libc what another
// preload library may interpose, except where it says so.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tally::core::os {

// ---- Memory. Sizes and addresses are multiples of page_size().

size_t page_size();
// Zeroed, readable and writable, aligned to `alignment` (a power of two, at least a page); nullptr
// if there is none.
void* map(size_t bytes, size_t alignment);
// As map, exactly there; false if something else is there by now.
bool map_at(void* p, size_t bytes);
// Gives address space back. False if the system refused: the memory is then as before.
bool unmap(void* p, size_t bytes);
// Gives the memory back and keeps the addresses: they read as zero afterwards. False: the system
// refused, perhaps after it dropped a part (memory is locked page by page).
bool purge(void* p, size_t bytes);
// Gives the memory back and keeps the addresses, which nobody may access from then on. False: the
// system refused.
bool forbid(void* p, size_t bytes);
// Nobody may access it from then on, and nothing is given back. False: the system refused.
bool protect(void* p, size_t bytes);
// What was forbidden or protected may be accessed, and reads as zero, or as it was. False: the
// system refused, both to protect it otherwise and to map it anew.
bool allow(void* p, size_t bytes);
// Likewise of what holds nothing, and reads as zero then. As memory is had: a sandbox that kills a
// program for another call lets it do this.
bool renew(void* p, size_t bytes);
// Asks for huge pages in a range, or for none from now on. A hint: errors do not matter.
void prefer_huge_pages(void* p, size_t bytes, bool yes);
// Makes the mapping at p longer or shorter, its content kept, new bytes zero. It moves only if it
// has to, and then to an address aligned to `alignment`. nullptr: all is as before.
void* remap(void* p, size_t bytes, size_t new_bytes, size_t alignment);
// Copies memory that may not be there; false if it is not.
bool read_memory(const void* from, void* to, size_t bytes);
// Whether the 8 bytes at p can be read. By a system call that no sandbox forbids.
bool is_readable(const void* p);
// Likewise, whether they can be written: they are.
bool is_writable(void* p);

// ---- The process.

// Its system calls are filtered, as in a sandbox, which may kill it for one that is not usual.
bool is_filtered();
// What the process may have: the least limit of its cgroups, else the machine's memory.
uint64_t memory_bytes(bool* of_cgroup);
// From the kernel, as a child made behind libc's back would find its parent's number with libc.
int64_t process_id();
uint32_t user_id();    // effective
uint32_t thread_id();  // of the running thread, as the kernel has it
// What nobody can foretell.
uint64_t random_word();
// Milliseconds since some moment, in steps of a few. Without a system call where the kernel offers
// that, and without the processor's counter, which a program may forbid itself.
uint64_t now_ms();
// Exact: the date, time since some moment, and processor time of the running thread.
enum class Clock { kWall, kUptime, kThread };
uint64_t now_ns(Clock clock);
// True if the program runs with more rights than its caller: the environment is not to be trusted.
bool is_secure();
const char* const* environment();
// The executable's, cut to what fits, ended by 0; empty if the kernel does not tell.
void program_path(char* path, size_t capacity);
// Of the program as it was started, without folders, or of its file; cut to what fits, ended by 0.
void program_name(char* name, size_t capacity);
[[noreturn]] void abort_process();
// At once: nothing that is registered for the end runs.
[[noreturn]] void exit_process(int status);
// "USR2", "SIGUSR2" and "12" are all 12; 0 if it is no signal that can be caught.
int parse_signal(const char* name);
// Calls `handler` when the signal comes; false if that was refused. Through libc, so that the
// program sees it.
bool on_signal(int signal, void (*handler)(int));

// ---- Files. `fd` is one of the caller's, never closed here.

// A pipe that nobody reads any more makes it fail, without a SIGPIPE.
bool write_all(int fd, const char* text, size_t length);
// Writes through a file beside it that is renamed to `path` at the end, so that a reader sees all
// or nothing. `write` gets a descriptor and `arg`. False if any step failed: `path` is then as
// before. A device, a FIFO, and a link that the user or root made are written into instead.
bool replace_file(const char* path, bool (*write)(int fd, void* arg), void* arg);
// Adds to the end of a file, which is made if need be. A link is followed if the user or root made
// it. False: it could not.
bool append_file(const char* path, const char* text, size_t length);
// Another descriptor for the same file, out of the program's way; -1 if there is none.
int keep_descriptor(int fd);
void drop_descriptor(int fd);  // of keep_descriptor
// What a descriptor leads to, whatever its number is.
struct FileId {
  bool is_open = false;
  uint64_t device = 0, inode = 0;
  bool operator==(const FileId&) const = default;
};
FileId file_id(int fd);
int last_error();  // of the last failed write_all, replace_file or on_signal on this thread

// The whole of a file, ended by 0: its length, or -errno; what does not fit is EFBIG.
long read_file(const char* path, char* text, size_t capacity);

// ---- Threads.

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected);
void futex_wake_one(std::atomic<uint32_t>* word);
// As futex_wait, for so long at most.
void futex_wait_ms(std::atomic<uint32_t>* word, uint32_t expected, uint32_t ms);
void futex_wake_all(std::atomic<uint32_t>* word);
void sleep_ms(uint32_t ms);
// Of the running thread as the kernel has it, ended and filled up by 0.
inline constexpr size_t kThreadNameBytes = 16;
void thread_name(char (&name)[kThreadNameBytes]);
// Once per process, before the first call of arm_thread_exit: `hook` runs on each armed thread as
// late in its end as can be had. Through libc.
void set_thread_exit_hook(void (*hook)());
enum class Armed : uint8_t {
  kYes,
  kLater,  // the first thread alone is no reason to take one of libc's keys from the program
  kNo,     // the program has them all
};
Armed arm_thread_exit();
// A thread that is to be armed later may be by now.
bool may_arm_thread_exit();
// The thread does not end by pthread_cancel until it is allowed as it was. Through libc.
int forbid_cancellation();
void allow_cancellation(int as_it_was);
// The handlers run around fork, prepare last and the others first. Through libc.
void set_fork_hooks(void (*prepare)(), void (*parent)(), void (*child)());

}  // namespace tally::core::os
