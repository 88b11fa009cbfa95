#include "record/file.h"

#include <errno.h>
#include <string.h>

#include "os/file.h"
#include "os/libc.h"

namespace tally::record {

namespace os = core::os;
using core::TextWriter;

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) os::drop_descriptor(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

bool fail(TextWriter& why, const char* verb, const char* path, int error) {
  why.put("cannot ").put(verb).put(' ').put(path).put(": ").put(os::error_text(error));
  return false;
}

// The folder's descriptor; negative, and `why` was told, if it is not ours alone: who could put a
// file or a link there could have us write into it.
int open_folder(const char* path, TextWriter& why) {
  if (int error = os::make_folder(path)) {
    fail(why, "make", path, -error);
    return -1;
  }
  int folder = os::open_folder(path);
  if (folder == -ENOTDIR || folder == -ELOOP) {
    why.put("cannot use ").put(path).put(": it is a link, or no folder: remove it");
    return -1;
  }
  if (folder < 0) {
    fail(why, "open", path, -folder);
    return -1;
  }
  const os::FileFacts facts = os::file_facts(folder);
  const uint32_t user = os::user_id();
  if (facts.owner != user) {
    why.put("cannot use ").put(path).put(": it belongs to user ").number(facts.owner);
    why.put(", not to user ").number(user);
  } else if ((facts.mode & 077) != 0) {
    why.put("cannot use ").put(path).put(": others may enter it: run chmod 700 ").put(path);
  } else {
    return folder;
  }
  os::drop_descriptor(folder);
  return -1;
}

// The process whose file has this name; 0: it is none.
int64_t pid_of(const char* name) {
  int64_t pid = 0;
  for (; *name >= '0' && *name <= '9' && pid < INT32_MAX; ++name) pid = pid * 10 + (*name - '0');
  return strcmp(name, kSuffix) == 0 ? pid : 0;
}

void put_name(char* name, size_t capacity, int64_t pid) {
  TextWriter out(name, capacity - 1);
  out.number(static_cast<uint64_t>(pid)).put(kSuffix);
  name[out.used()] = 0;
}

// Keeps the newest files of dead processes, and removes the others.
class DeadFiles {
 public:
  DeadFiles(int folder, int64_t self) : folder_(folder), self_(self) {}

  void look_at(const char* name) {
    const int64_t pid = pid_of(name);
    if (pid == 0 || pid == self_) return;
    Descriptor file(os::open_file(folder_, name));
    // A file that can be locked is nobody's.
    if (file.get() < 0 || os::lock_file(file.get()) != 0) return;
    One next = {os::file_facts(file.get()).changed, pid};
    for (One& one : kept_) {
      if (one.changed >= next.changed) continue;
      One older = one;
      one = next;
      next = older;
    }
    if (next.pid == 0) return;
    char oldest[24];
    put_name(oldest, sizeof oldest, next.pid);
    os::remove_file(folder_, oldest);
  }

 private:
  struct One {
    uint64_t changed;
    int64_t pid;
  };
  int folder_;
  int64_t self_;
  One kept_[kDeadKept] = {};  // newest first
};

void remove_dead(int folder, int64_t self) {
  DeadFiles dead(folder, self);
  os::list_folder(
      folder, [](void* arg, const char* name) { static_cast<DeadFiles*>(arg)->look_at(name); },
      &dead);
}

// For a moment somebody may have it who looks whether the file is a dead process's.
int lock_patiently(int fd) {
  constexpr int kTries = 20;
  int error = os::lock_file(fd);
  for (int i = 0; i < kTries && error == -EWOULDBLOCK; ++i) {
    os::sleep_ms(1);
    error = os::lock_file(fd);
  }
  return error;
}

// Makes the file. What a dead process of the same number left, or this one before it became another
// program, goes first.
int create_file(int folder, const char* name) {
  int fd = os::create_file(folder, name);
  if (fd != -EEXIST) return fd;
  {
    Descriptor old(os::open_file(folder, name));
    if (old.get() < 0) return old.get() == -ENOENT ? -EAGAIN : old.get();
    if (int error = lock_patiently(old.get())) return error == -EWOULDBLOCK ? -EBUSY : error;
    os::remove_file(folder, name);
  }
  return os::create_file(folder, name);
}

}  // namespace

bool File::create(const char* folder_path, TextWriter& why) {
  pid_ = os::process_id();
  strcpy(folder_, folder_path);
  put_name(name_, sizeof name_, pid_);
  TextWriter whole(path_, sizeof path_ - 1);
  whole.put(folder_).put('/').put(name_);
  path_[whole.used()] = 0;
  Descriptor folder(open_folder(folder_, why));
  if (folder.get() < 0) return false;
  int fd = create_file(folder.get(), name_);
  if (fd == -EBUSY) {
    why.put("cannot make ").put(path_).put(": another process of this number, as a container's, ");
    why.put("has it");
    return false;
  }
  if (fd < 0) return fail(why, "make", path_, -fd);
  int error = lock_patiently(fd);
  if (error == 0) error = os::set_length(fd, kFileBytes);
  if (error != 0) {
    os::drop_descriptor(fd);
    os::remove_file(folder.get(), name_);
    return fail(why, "write", path_, -error);
  }
  int kept = os::keep_descriptor(fd);
  // Few descriptors may be had; but not those of standard streams that the program has closed.
  if (kept < 0 && fd <= 2) {
    os::drop_descriptor(fd);
    os::remove_file(folder.get(), name_);
    why.put("cannot keep a descriptor of ").put(path_).put(": raise the limit of open files");
    return false;
  }
  if (kept >= 0) os::drop_descriptor(fd);
  id_ = os::file_id(kept >= 0 ? kept : fd);
  fd_.store(kept >= 0 ? kept : fd, std::memory_order_relaxed);
  remove_dead(folder.get(), pid_);
  return true;
}

bool File::is_ours() const { return os::process_id() == pid_; }

bool File::leads_there(int fd) const { return fd >= 0 && os::file_id(fd) == id_; }

int File::write(const void* from, size_t bytes, uint64_t offset) const {
  // Looked at each time: many programs close descriptors that are not theirs, and the number is
  // then that of the next file that they open.
  const int fd = fd_.load(std::memory_order_relaxed);
  return leads_there(fd) ? -os::write_at(fd, from, bytes, offset) : ESTALE;
}

bool File::read(void* to, size_t bytes, uint64_t offset) const {
  const int fd = fd_.load(std::memory_order_relaxed);
  return leads_there(fd) && os::read_at(fd, to, bytes, offset) == bytes;
}

// The file that is at the path now, and its folder.
int File::open_again(int* folder) const {
  *folder = os::open_folder(folder_);
  return *folder < 0 ? -1 : os::open_file(*folder, name_);
}

bool File::find_again() {
  int folder_fd;
  Descriptor file(open_again(&folder_fd));
  Descriptor folder(folder_fd);
  fd_.store(-1, std::memory_order_relaxed);
  if (!leads_there(file.get())) return false;
  int kept = os::keep_descriptor(file.get());
  if (kept < 0) return false;
  lock_patiently(kept);
  fd_.store(kept, std::memory_order_relaxed);
  return true;
}

void File::unlink() const {
  int folder_fd;
  Descriptor file(open_again(&folder_fd));
  Descriptor folder(folder_fd);
  if (leads_there(file.get())) os::remove_file(folder_fd, name_);
}

void File::remove() {
  unlink();
  leave();
}

void File::leave() {
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (leads_there(fd)) os::drop_descriptor(fd);
}

}  // namespace tally::record
