// An ELF file, by libelf: what a dynamic linker and a linker wrote and will read there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct Elf;

namespace tally::tool {

class ElfFile {
 public:
  // None if the file cannot be read, is no ELF file or ends too early.
  static std::optional<ElfFile> open(const std::string& path);

  unsigned char bits() const { return bits_; }                   // ELFCLASS32 or ELFCLASS64
  uint16_t machine() const { return machine_; }                  // EM_*
  bool is_shared_object() const { return is_shared_object_; }    // or a program for any address
  const std::string& dynamic_linker() const { return linker_; }  // empty: the program is static
  std::vector<std::string> needed() const;                       // libraries that it names itself
  bool has_section(std::string_view name) const;

  // Those that other files see, which come first, and if it was not stripped the others too.
  struct Symbol {
    std::string_view name;
    bool is_defined;  // else it is another's
    bool is_exported;
  };
  void each_symbol(const std::function<void(const Symbol&)>& visit) const;

 private:
  struct Close {
    void operator()(Elf* elf) const;
  };
  explicit ElfFile(Elf* elf) : elf_(elf) {}
  bool read_header();
  bool read_dynamic_linker();
  template <class Visit>
  void each_section(const Visit& visit) const;

  std::unique_ptr<Elf, Close> elf_;
  unsigned char bits_ = 0;
  uint16_t machine_ = 0;
  bool is_shared_object_ = false;
  std::string linker_;
};

}  // namespace tally::tool
