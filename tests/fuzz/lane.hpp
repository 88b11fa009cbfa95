// A thread that does one thing at a time, while whoever asked for it waits: several of them play a
// program with threads in an order that an input determines.
#pragma once

#include <functional>
#include <semaphore>
#include <thread>

namespace tally::fuzz {

class Lane {
 public:
  ~Lane() { end(); }

  // Begins a thread if there is none.
  void run(const std::function<void()>& body) {
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
    body_ = &body;
    go_.release();
    done_.acquire();
  }
  // The thread ends; the next run() begins another.
  void end() {
    if (!thread_.joinable()) return;
    body_ = nullptr;
    go_.release();
    thread_.join();
  }

 private:
  void work() {
    for (go_.acquire(); body_ != nullptr; go_.acquire()) {
      (*body_)();
      done_.release();
    }
  }

  std::thread thread_;
  std::binary_semaphore go_{0}, done_{0};
  const std::function<void()>* body_ = nullptr;
};

}  // namespace tally::fuzz
