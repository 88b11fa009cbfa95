// The C++ library as programs use it: strings, vectors that grow, maps, shared pointers, with sized
// delete throughout.
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "workload.hpp"

using namespace workload;

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long rounds = args.work(12);
  size_t checksum = 0;
  for (long round = 0; round < rounds; ++round) {
    Random random(round + 1);
    std::unordered_map<std::string, std::vector<uint32_t>> index;
    std::map<uint64_t, std::shared_ptr<std::string>> ordered;
    for (uint32_t i = 0; i < 60000; ++i) {
      const uint32_t key = random.below(20000);
      index["a key that is longer than the string's own buffer " + std::to_string(key)].push_back(
          i);
      ordered[random.below(40000)] = std::make_shared<std::string>(random.skewed(8, 5), 'x');
      if (i % 3 == 0) ordered.erase(ordered.begin());
    }
    std::vector<std::string> lines;
    for (const auto& [key, places] : index) {
      std::string line = key;
      for (uint32_t place : places) line += ' ' + std::to_string(place);
      lines.push_back(std::move(line));
    }
    std::sort(lines.begin(), lines.end());
    checksum += lines.front().size() + ordered.size();
  }
  std::printf("%zu\n", checksum);
}
