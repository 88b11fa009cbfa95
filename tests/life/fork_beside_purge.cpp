// fork while another thread's malloc_trim gives back what large blocks left: spans, and slots of
// chunks. The child is to have what that thread had in hand: its own trim gives it back, and the
// same blocks fit where they did.
#include <sys/wait.h>

#include <atomic>

#include "threads.hpp"

namespace {

constexpr size_t kMiB = 1 << 20;
constexpr int kRounds = 6;

struct Sort {
  size_t size;
  int count;
};
constexpr Sort kSpans = {2 * kMiB, 30}, kSlots = {960 << 10, 60};

void* blocks[60];
std::atomic<int> round_begun{0}, round_ended{0};

void allocate(const Sort& sort) {
  for (int i = 0; i < sort.count; i++) {
    blocks[i] = malloc(sort.size);
    CHECK(blocks[i] != nullptr);
    memset(blocks[i], i + 1, sort.size);
  }
}
void release(const Sort& sort) {
  for (int i = 0; i < sort.count; i++) free(blocks[i]);
}

auto process_now() {
  tally_snapshot_t* snapshot = tally_snapshot();
  CHECK(snapshot != nullptr);
  const auto process = snapshot->process;
  tally_snapshot_free(snapshot);
  return process;
}
uint64_t chunks() { return process_now().backend_chunks; }
uint64_t mapped() { return process_now().mapped_bytes; }

void child(const Sort& sort, size_t idle_rss, uint64_t idle_mapped, uint64_t had_chunks) {
  alarm(20);
  malloc_trim(0);
  CHECK_OP(rss_bytes(), <, idle_rss + 4 * kMiB);
  CHECK_OP(mapped(), <=, idle_mapped + kMiB);
  allocate(sort);
  // Hardened, many blocks wait, and the one that the trim was about to free is in nobody's hand.
  CHECK_OP(chunks(), <=, had_chunks + (getenv("TEST_HARDENED") != nullptr));
  for (int i = 0; i < sort.count; i++) {
    const auto* bytes = static_cast<const unsigned char*>(blocks[i]);
    CHECK(bytes[0] == i + 1 && memcmp(bytes, bytes + 1, sort.size - 1) == 0);
  }
  release(sort);
  malloc_trim(0);
  CHECK_OP(rss_bytes(), <, idle_rss + 4 * kMiB);
  _exit(0);
}

}  // namespace

int main() {
  CHECK_LIVE();
  for (const Sort& sort : {kSpans, kSlots}) {
    round_begun = round_ended = 0;
    auto trim = [] {
      for (int i = 1; i <= kRounds; i++) {
        while (round_begun.load() < i) usleep(10);
        malloc_trim(0);
        round_ended = i;
      }
    };
    Thread other(trim);
    allocate(sort);
    release(sort);
    malloc_trim(0);
    const size_t idle_rss = rss_bytes();
    const uint64_t idle_mapped = mapped();
    for (int i = 1; i <= kRounds; i++) {
      allocate(sort);
      const uint64_t had_chunks = chunks();
      release(sort);
      round_begun = i;
      usleep(static_cast<unsigned>(i) * 120);  // somewhere in the midst of the trim
      const pid_t pid = fork();
      CHECK(pid >= 0);
      if (pid == 0) child(sort, idle_rss, idle_mapped, had_chunks);
      int status;
      CHECK(waitpid(pid, &status, 0) == pid);
      CHECK_OP(status, ==, 0);
      while (round_ended.load() < i) usleep(10);
    }
    other.join();
    CHECK_OP(rss_bytes(), <, idle_rss + 4 * kMiB);
  }
  return 0;
}
