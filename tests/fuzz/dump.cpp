// An input is a file, as a dump in JSON would be one: each command of `tally` shows it or refuses
// it in words.
#include "tool.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& file = *new tally::fuzz::MemoryFile;  // for as long as there is anybody
  tally::fuzz::Input input(data, size);
  const unsigned way = input.byte();
  file.resize(0);
  file.write_at(0, input.rest());
  run_tool(tally::fuzz::shown(file.path(), way));
  return 0;
}
