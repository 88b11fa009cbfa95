#include "elf_file.h"

#include <fcntl.h>
#include <gelf.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace tally::tool {
namespace {

std::string_view text_at(Elf* elf, size_t section, size_t offset) {
  const char* text = elf_strptr(elf, section, offset);
  return text == nullptr ? "" : text;
}

}  // namespace

void ElfFile::Close::operator()(Elf* elf) const { elf_end(elf); }

std::optional<ElfFile> ElfFile::open(const std::string& path) {
  elf_version(EV_CURRENT);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return {};
  ElfFile opened(elf_begin(file, ELF_C_READ_MMAP, nullptr));
  if (opened.elf_ != nullptr) elf_cntl(opened.elf_.get(), ELF_C_FDDONE);
  close(file);
  const bool is_whole = opened.read_header() && opened.read_dynamic_linker();
  return is_whole ? std::optional(std::move(opened)) : std::nullopt;
}

bool ElfFile::read_header() {
  GElf_Ehdr header;
  if (gelf_getehdr(elf_.get(), &header) == nullptr) return false;
  bits_ = header.e_ident[EI_CLASS];
  machine_ = header.e_machine;
  is_shared_object_ = header.e_type == ET_DYN;
  return true;
}

bool ElfFile::read_dynamic_linker() {
  size_t count = 0;
  if (elf_getphdrnum(elf_.get(), &count) != 0) return false;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf_.get(), static_cast<int>(i), &segment) == nullptr) return false;
    if (segment.p_type != PT_INTERP) continue;
    size_t size = 0;
    const char* file = elf_rawfile(elf_.get(), &size);
    const bool is_inside = segment.p_offset < size && segment.p_filesz <= size - segment.p_offset;
    if (!is_inside) return false;
    linker_.assign(file + segment.p_offset, strnlen(file + segment.p_offset, segment.p_filesz));
  }
  return true;
}

template <class Visit>
void ElfFile::each_section(const Visit& visit) const {
  for (Elf_Scn* at = nullptr; (at = elf_nextscn(elf_.get(), at)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(at, &header) != nullptr) visit(at, header);
  }
}

std::vector<std::string> ElfFile::needed() const {
  std::vector<std::string> names;
  each_section([&](Elf_Scn* section, const GElf_Shdr& header) {
    Elf_Data* data = header.sh_type == SHT_DYNAMIC ? elf_getdata(section, nullptr) : nullptr;
    GElf_Dyn entry;
    for (int i = 0; data != nullptr && gelf_getdyn(data, i, &entry) != nullptr; ++i) {
      if (entry.d_tag != DT_NEEDED) continue;
      names.emplace_back(text_at(elf_.get(), header.sh_link, entry.d_un.d_val));
    }
  });
  return names;
}

bool ElfFile::has_section(std::string_view name) const {
  size_t names = 0;
  if (elf_getshdrstrndx(elf_.get(), &names) != 0) return false;
  bool has = false;
  each_section([&](Elf_Scn*, const GElf_Shdr& header) {
    has |= text_at(elf_.get(), names, header.sh_name) == name;
  });
  return has;
}

void ElfFile::each_symbol(const std::function<void(const Symbol&)>& visit) const {
  for (uint32_t type : {SHT_DYNSYM, SHT_SYMTAB}) {
    each_section([&](Elf_Scn* section, const GElf_Shdr& header) {
      Elf_Data* data = header.sh_type == type ? elf_getdata(section, nullptr) : nullptr;
      GElf_Sym symbol;
      for (int i = 0; data != nullptr && gelf_getsym(data, i, &symbol) != nullptr; ++i) {
        visit({text_at(elf_.get(), header.sh_link, symbol.st_name), symbol.st_shndx != SHN_UNDEF,
               type == SHT_DYNSYM});
      }
    });
  }
}

}  // namespace tally::tool
