// An input is a list of changes to an ELF file with symbols and debug information, or a whole file:
// what is asked of it is answered or not, in a bounded time, and what is said is harmless.
#include "symbols.h"

#include <algorithm>
#include <string>

#include "symbol_file.h"
#include "text.h"
#include "tool.hpp"

namespace tally::fuzz {
namespace {

// The file that the build makes for that, small.
std::string sample() {
  FILE* file = fopen(TALLY_FUZZ_ELF, "re");
  FUZZ_CHECK(file != nullptr);
  std::string bytes(1 << 20, 0);
  bytes.resize(fread(bytes.data(), 1, bytes.size(), file));
  fclose(file);
  return bytes;
}

void change(std::string* bytes, Input* input) {
  while (!input->is_empty() && !bytes->empty()) {
    const unsigned how = input->byte();
    size_t at = input->number(how % 2 == 0 ? 1 : 3);  // often in the header
    // From the end, where the table of sections is.
    if (how % 4 == 2) at = bytes->size() - 1 - at % bytes->size();
    at %= bytes->size();
    const std::string text = input->text(1 + how / 4 % 8);
    const size_t length = std::min(text.size(), bytes->size() - at);
    bytes->replace(at, length, text, 0, length);
  }
}

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tally;
  static const std::string own = fuzz::sample();
  static auto& file = *new fuzz::MemoryFile;  // for as long as there is anybody
  fuzz::Input input(data, size);
  const bool is_whole = input.byte() % 4 == 3;
  std::string bytes = is_whole ? input.rest() : own;
  fuzz::change(&bytes, &input);
  file.resize(0);
  file.write_at(0, bytes);
  const auto symbols = tool::SymbolFile::open(file.path(), {});
  if (symbols == nullptr) return 0;
  for (uint64_t address = 0x1000; address < 0x1400; address += 0x18) {
    for (const tool::Frame& frame : symbols->at(address)) {
      FUZZ_CHECK(!frame.function.empty() && frame.function.size() < size_t{1} << 20);
      fuzz::check_text(tool::printable(frame.function + frame.file) + "\n");
    }
  }
  return 0;
}
