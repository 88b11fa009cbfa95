// Files that stay open for the life of the process, and their folders. As os.h: no allocation,
// errno is kept, nothing that another preload library may interpose.
//
// What returns an int gives a descriptor or 0, and -errno where it failed. Descriptors are closed
// by os::drop_descriptor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/os.h"

namespace tally::core::os {

// Mode 0700. 0 also if something of that name is there.
int make_folder(const char* path);
// Of a folder, not of a link to one.
int open_folder(const char* path);
// Calls entry(arg, name) for each name in it, in no order.
int list_folder(int folder, void (*entry)(void* arg, const char* name), void* arg);

// In the folder; for reading and writing, and closed by exec. A link is not followed.
int create_file(int folder, const char* name);  // which was not there; mode 0600
int open_file(int folder, const char* name);
int remove_file(int folder, const char* name);
int set_length(int fd, uint64_t bytes);
// The lock on the file as a whole, which is its description's: those of all descriptors that stem
// from one open. -EWOULDBLOCK: somebody else has it.
int lock_file(int fd);

// All of it. -EFBIG is no signal.
int write_at(int fd, const void* from, size_t bytes, uint64_t offset);
// How much there was.
size_t read_at(int fd, void* to, size_t bytes, uint64_t offset);

struct FileFacts {
  bool is_folder = false;
  uint32_t owner = 0;
  uint32_t mode = 0;     // the permissions
  uint64_t changed = 0;  // ns: when its content was
};
FileFacts file_facts(int fd);

// What the kernel tells of the process in files: all of it that fits. Returns the length.
size_t read_link(const char* path, char* to, size_t capacity);
size_t read_whole(const char* path, char* to, size_t capacity);

// ---- A thread of ours.

// Starts one by libc, under this name (at most 15 bytes), with the least priority, no signal of the
// program's, and `stack` bytes, or more if the program's thread-local data needs it. 0, or an
// errno. Not where libc may hold a lock, as it does when it calls malloc.
int start_thread(void (*run)(), const char* name, size_t stack);
// The running thread is the only one left, as main has ended by pthread_exit: it must end, or the
// process will not. Also where that cannot be seen, as without /proc.
bool is_last_thread();

}  // namespace tally::core::os
