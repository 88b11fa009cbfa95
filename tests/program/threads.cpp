// For ledger_test.py: containers in 64 threads, each with a part of it freed again.
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

int main() {
  constexpr int kThreads = 64;
  std::vector<std::thread> threads;
  std::mutex done;
  done.lock();
  std::vector<std::unordered_map<int, std::string>> kept(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::map<int, std::vector<int>> sorted;
      for (int i = 0; i < 3000; ++i) {
        kept[t][i] = std::string(static_cast<size_t>(i % 300), 'x');
        sorted[i * 7919 % 3000].resize(static_cast<size_t>(i % 40));
      }
      for (int i = 0; i < 3000; i += 3) kept[t].erase(i);
      std::vector<char> large(static_cast<size_t>(t) * 10000, 'y');
      done.lock();  // for ever
    });
  }
  std::this_thread::sleep_for(std::chrono::seconds(1));
  std::puts("ready");
  std::fflush(stdout);
  for (std::thread& thread : threads) thread.join();
}
