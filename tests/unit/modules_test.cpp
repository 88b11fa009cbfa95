#include "sample/modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

namespace modules = core::modules;
namespace os = core::os;

os::Module module_of(const void* address) {
  os::Module module;
  EXPECT_TRUE(os::find_module(address, &module));
  return module;
}
const modules::Entry& entry_of(const void* address) {
  uint32_t index = modules::index_of(module_of(address));
  EXPECT_LT(index, modules::count());
  return modules::at(index);
}

// As the dynamic linker lists it: the reference.
struct Listed {
  const void* address;
  uintptr_t bias = 0;
  std::string build_id;
};

int take_if_there(dl_phdr_info* info, size_t, void* listed_as_void) {
  auto* listed = static_cast<Listed*>(listed_as_void);
  bool is_it = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    uintptr_t inside = core::address(listed->address) - info->dlpi_addr - segment.p_vaddr;
    is_it = is_it || (segment.p_type == PT_LOAD && inside < segment.p_memsz);
  }
  if (!is_it) return 0;
  listed->bias = info->dlpi_addr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const char* at = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    for (const char* end = at + segment.p_memsz; at < end;) {
      ElfW(Nhdr) note;
      memcpy(&note, at, sizeof note);
      const char* content = at + sizeof note + (note.n_namesz + 3) / 4 * 4;
      if (note.n_type == NT_GNU_BUILD_ID) listed->build_id.assign(content, note.n_descsz);
      at = content + (note.n_descsz + 3) / 4 * 4;
    }
  }
  return 1;
}

Listed listed(const void* address) {
  Listed result = {address, 0, {}};
  dl_iterate_phdr(take_if_there, &result);
  return result;
}

std::string build_id(const modules::Entry& entry) {
  return {reinterpret_cast<const char*>(entry.build_id), entry.build_id_bytes};
}

std::string real_path(const char* path) {
  char whole[PATH_MAX];
  return realpath(path, whole) == nullptr ? "" : whole;
}

const void* in_the_program() { return reinterpret_cast<const void*>(&in_the_program); }
const void* in_libc() { return dlsym(RTLD_DEFAULT, "getpid"); }
const void* in_the_vdso() { return reinterpret_cast<const void*>(getauxval(AT_SYSINFO_EHDR)); }

TEST(Modules, WhatTheLinkerListsIsKept) {
  for (const void* address : {in_the_program(), in_libc(), in_the_vdso()}) {
    const modules::Entry& entry = entry_of(address);
    Listed expected = listed(address);
    EXPECT_TRUE(core::address(address) >= entry.start && core::address(address) < entry.end);
    EXPECT_EQ(entry.bias, expected.bias) << entry.path;
    EXPECT_EQ(build_id(entry), expected.build_id) << entry.path;
    EXPECT_FALSE(expected.build_id.empty()) << entry.path << " was linked without one";
    EXPECT_EQ(entry.path_bytes, strlen(entry.path));
    EXPECT_EQ(entry.is_program, address == in_the_program() ? 1U : 0U);
  }
  EXPECT_EQ(entry_of(in_the_program()).path, real_path("/proc/self/exe"));
  EXPECT_STREQ(entry_of(in_the_vdso()).path, "[vdso]");
  Dl_info info;
  ASSERT_NE(dladdr(in_libc(), &info), 0);
  EXPECT_STREQ(entry_of(in_libc()).path, info.dli_fname);
}

TEST(Modules, EachIsOnce) {
  uint32_t libc = modules::index_of(module_of(in_libc()));
  uint32_t program = modules::index_of(module_of(in_the_program()));
  EXPECT_NE(libc, program);
  size_t count = modules::count();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) {
        EXPECT_EQ(modules::index_of(module_of(in_libc())), libc);
        EXPECT_EQ(modules::index_of(module_of(in_the_program())), program);
        modules::index_of(module_of(in_the_vdso()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(modules::count(), count + 1) << "the vdso";
}

TEST(Modules, WhatIsLoadedInItsPlaceIsAnother) {
  std::string build_ids[2];
  uint32_t indexes[2];
  void* places[2];
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 2; ++i) {
      const char* path = i == 0 ? TALLY_PLUGIN_A : TALLY_PLUGIN_B;
      void* library = dlopen(path, RTLD_NOW);
      ASSERT_NE(library, nullptr) << dlerror();
      void* place = dlsym(library, "plugin_call");
      uint32_t index = modules::index_of(module_of(place));
      ASSERT_LT(index, modules::count());
      const modules::Entry& entry = modules::at(index);
      EXPECT_STREQ(entry.path, path);
      EXPECT_EQ(build_id(entry), listed(place).build_id);
      if (round == 0) {
        build_ids[i] = build_id(entry);
        indexes[i] = index;
        places[i] = place;
      } else if (place == places[i]) {
        EXPECT_EQ(index, indexes[i]);
      }
      dlclose(library);
    }
  }
  EXPECT_NE(build_ids[0], build_ids[1]);
  EXPECT_NE(indexes[0], indexes[1]);
}

// Last, as it leaves no room.
TEST(Modules, OfTooManyNoneIsKept) {
  const uint32_t libc = modules::index_of(module_of(in_libc()));
  alignas(4096) static char memory[2 * 4096] = {};
  static char path[] = "/made/up";
  static link_map map = {};
  map.l_name = path;
  const auto one = [&](size_t i) {
    return os::Module{&map, core::address(memory), core::address(memory) + 4096 + i, nullptr};
  };
  // Without a build id the path tells.
  const uint32_t first = modules::index_of(one(0));
  EXPECT_EQ(modules::index_of(one(0)), first);
  static char other_path[] = "/made/ap";
  map.l_name = other_path;
  EXPECT_EQ(modules::index_of(one(0)), first + 1);
  map.l_name = path;
  EXPECT_EQ(modules::index_of(one(0)), first);
  size_t made = 0;
  for (; made < modules::kMost + 10; ++made) {
    if (modules::index_of(one(made)) == modules::kNone) break;
  }
  EXPECT_EQ(modules::count(), modules::kMost);
  EXPECT_LT(made, modules::kMost);
  for (size_t i = 0; i < made; ++i) {
    const modules::Entry& entry = modules::at(modules::index_of(one(i)));
    EXPECT_EQ(entry.end, one(i).end);
    EXPECT_STREQ(entry.path, path);
    EXPECT_EQ(entry.build_id_bytes, 0U);
  }
  EXPECT_EQ(modules::index_of(one(made)), modules::kNone);
  EXPECT_EQ(modules::index_of(module_of(in_libc())), libc);
}

}  // namespace
}  // namespace tally::unit
