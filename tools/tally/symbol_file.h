// The functions and lines of one ELF file, by elfutils' libdw: from its debug information, which
// may lie in a file of its own (/usr/lib/debug by build id, .gnu_debuglink, or on a debuginfod
// server where DEBUGINFOD_URLS names one), else from its symbols.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "symbols.h"

namespace tally::tool {

class SymbolFile {
 public:
  // nullptr if the file cannot be read, or is another than the one with this build id (empty: any).
  static std::unique_ptr<SymbolFile> open(const std::string& path,
                                          std::span<const uint8_t> build_id);
  virtual ~SymbolFile() = default;

  // The functions at an address as the file's program headers count them, innermost first; none if
  // nothing is known of it.
  virtual std::vector<Frame> at(uint64_t address) = 0;
};

}  // namespace tally::tool
