// Threads allocate batches of small blocks and swap them through a shared mailbox, so that most
// blocks are freed by another thread than allocated them, in mixed order.
#include <mutex>

#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long passes = args.work(30000);
  constexpr size_t kMailboxes = 4;
  struct alignas(128) Mailbox {
    std::mutex mutex;
    std::vector<Block> blocks;
  };
  std::vector<Mailbox> mailboxes(kMailboxes);

  run_threads(args.threads(), [&](int index) {
    Random random(index + 1);
    std::vector<Block> batch;
    for (long pass = 0; pass < passes; ++pass) {
      const uint32_t base = random.skewed(8, 6);
      for (int i = 0; i < 500; ++i) batch.push_back(allocate(base + random.below(base)));
      {
        Mailbox& mailbox = mailboxes[random.below(kMailboxes)];
        std::lock_guard lock(mailbox.mutex);
        std::swap(batch, mailbox.blocks);
      }
      const size_t n = batch.size();
      for (size_t i = 0; i < n; i += 2) release(batch[i]);
      for (size_t i = n / 2; i-- > 0;) release(batch[2 * i + 1]);
      batch.clear();
    }
  });
  for (Mailbox& mailbox : mailboxes)
    std::for_each(mailbox.blocks.begin(), mailbox.blocks.end(), release);
}
