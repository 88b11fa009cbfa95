// Runs a target where there is no libFuzzer: every file of the folders that are named, and then
// inputs made of them at random. Its arguments are libFuzzer's, as far as the tests give any:
//
//   fuzz_NAME [-runs=N] [-seed=N] [-max_total_time=SECONDS] [-timeout=SECONDS] [FOLDER|FILE]...
//
// The input that ends the process, or takes longer than that, is left in ./crash-<pid>.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "blocks.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" [[gnu::weak]] int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace {

namespace fs = std::filesystem;

struct Options {
  uint64_t runs = 0, seed = 1, seconds = UINT32_MAX, timeout = 300;
};

std::string running;  // the input
char crash_file[64];

extern "C" void leave_input(int signal) {
  const int file = open(crash_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool is_left = write(file, running.data(), running.size()) == ssize_t(running.size());
  static constexpr char kSaid[] = "fuzz: the input is left in ./crash-<pid>\n";
  if (is_left && write(2, kSaid, sizeof kSaid - 1) < 0) _exit(1);
  raise(signal);  // by the default action, as it was set for once
}

void run(std::string input, const Options& options) {
  running = std::move(input);
  alarm(static_cast<unsigned>(options.timeout));
  // A copy of its own, so that a read beyond its end is one beyond a block's.
  const std::vector<uint8_t> bytes(running.begin(), running.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  alarm(0);
}

// In an order that is the same everywhere.
std::vector<std::string> inputs_of(const std::vector<std::string>& places) {
  std::vector<fs::path> files;
  for (const std::string& place : places) {
    if (!fs::is_directory(place)) {
      files.emplace_back(place);
      continue;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(place)) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> inputs;
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

// One change; numbers that are often at an edge among them.
void mutate(std::string* input, const std::vector<std::string>& all, Random& random) {
  static constexpr unsigned char kEdges[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '/', '%', '"'};
  const size_t at = random.below(input->size() + 1);
  const size_t length = std::min<size_t>(1 + random.below(8), input->size() - at);
  switch (random.below(6)) {
    case 0:
      if (length != 0) (*input)[at] = static_cast<char>((*input)[at] ^ 1 << random.below(8));
      return;
    case 1:
      for (size_t i = 0; i < length; ++i) (*input)[at + i] = static_cast<char>(random.next());
      return;
    case 2:
      input->replace(at, length, length, static_cast<char>(kEdges[random.below(sizeof kEdges)]));
      return;
    case 3:
      input->erase(at, length);
      return;
    case 4:
      input->insert(at, 1 + random.below(8), static_cast<char>(random.next()));
      return;
    case 5: {
      const std::string& other = all[random.below(all.size())];
      const size_t from = random.below(other.size() + 1);
      input->insert(at, other, from, random.below(64));
      return;
    }
  }
}

bool has_number(const char* argument, const char* name, uint64_t* number) {
  if (strncmp(argument, name, strlen(name)) != 0) return false;
  *number = std::strtoull(argument + strlen(name), nullptr, 10);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> places;
  for (int i = 1; i < argc; ++i) {
    const bool is_known = has_number(argv[i], "-runs=", &options.runs) ||
                          has_number(argv[i], "-seed=", &options.seed) ||
                          has_number(argv[i], "-timeout=", &options.timeout) ||
                          has_number(argv[i], "-max_total_time=", &options.seconds);
    if (!is_known) places.emplace_back(argv[i]);
  }
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  snprintf(crash_file, sizeof crash_file, "crash-%d", static_cast<int>(getpid()));
  struct sigaction action = {};
  action.sa_handler = leave_input;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) {
    sigaction(signal, &action, nullptr);
  }

  std::vector<std::string> inputs = inputs_of(places);
  for (const std::string& input : inputs) run(input, options);
  if (inputs.empty()) inputs.emplace_back();
  Random random(options.seed);
  const time_t end = time(nullptr) + static_cast<time_t>(options.seconds);
  uint64_t runs = 0;
  for (; runs < options.runs && time(nullptr) < end; ++runs) {
    std::string input = inputs[random.below(inputs.size())];
    for (uint64_t changes = 1 + random.below(5); changes != 0; --changes) {
      mutate(&input, inputs, random);
    }
    if (input.size() > size_t{1} << 16) input.resize(size_t{1} << 16);
    run(std::move(input), options);
  }
  printf("%zu files, then %llu inputs made of them\n", inputs.size(),
         static_cast<unsigned long long>(runs));
  return 0;
}
