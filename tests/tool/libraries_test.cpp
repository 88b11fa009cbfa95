#include "libraries.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "failure.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;

class Libraries : public testing::Test {
 protected:
  Libraries() { folder_ = mkdtemp(folder_.data()); }
  ~Libraries() override { fs::remove_all(folder_); }

  // The path of an empty folder.
  std::string folder(const std::string& name) {
    fs::create_directories(fs::path(folder_) / name);
    return fs::path(folder_) / name;
  }

  // The path of a library of that name in a folder.
  static std::string library(const std::string& folder, const std::string& name) {
    fs::create_symlink(TALLY_LIBRARY_FILE, fs::path(folder) / name);
    return fs::path(folder) / name;
  }

 private:
  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
};

std::string message(const Backend& backend, const SearchPath& where) {
  try {
    return "found " + find_backend_library(backend, where);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.status(), 78);
    return failure.what();
  }
}

TEST_F(Libraries, AreTakenInTheLinkersOrder) {
  const Backend& jemalloc = *find_backend("jemalloc");
  const SearchPath where = {
      {folder("nowhere"), folder("first"), folder("second")},
      {folder("cached") + "/libother.so", folder("cached") + "/libjemalloc.so.2"},
      {folder("nowhere"), folder("standard")}};
  std::string standard = library(folder("standard"), "libjemalloc.so.2");
  EXPECT_EQ(find_backend_library(jemalloc, where), standard);
  std::string cached = library(folder("cached"), "libjemalloc.so.2");
  library(folder("cached"), "libother.so");
  EXPECT_EQ(find_backend_library(jemalloc, where), cached);
  std::string second = library(folder("second"), "libjemalloc.so.2");
  EXPECT_EQ(find_backend_library(jemalloc, where), second);
  std::string first = library(folder("first"), "libjemalloc.so.2");
  EXPECT_EQ(find_backend_library(jemalloc, where), first);
}

TEST_F(Libraries, MayHaveOneOfSeveralNames) {
  const Backend& mimalloc = *find_backend("mimalloc");
  const SearchPath where = {{folder("f")}, {folder("c") + "/libmimalloc.so.3"}, {}};
  std::string of_cache = library(folder("c"), "libmimalloc.so.3");
  EXPECT_EQ(find_backend_library(mimalloc, where), of_cache);
  for (const char* name : {"libmimalloc.so", "libmimalloc.so.3", "libmimalloc.so.2"}) {
    std::string path = library(folder("f"), name);
    EXPECT_EQ(find_backend_library(mimalloc, where), path);
  }
}

TEST_F(Libraries, OfWhichOnlyTheNameIsRightArePassedOver) {
  std::ofstream(folder("first") + "/libjemalloc.so.2") << "INPUT(libjemalloc.a)";
  fs::create_directory(folder("second") + "/libjemalloc.so.2");
  std::string good = library(folder("third"), "libjemalloc.so.2");
  const SearchPath where = {{folder("first"), folder("second"), folder("third")}, {}, {}};
  EXPECT_EQ(find_backend_library(*find_backend("jemalloc"), where), good);
}

TEST_F(Libraries, ThatAreMissingAreNamedWithTheirPackage) {
  const SearchPath where = {{folder("f")}, {folder("f") + "/libjemalloc.so.2"}, {"/nowhere"}};
  EXPECT_EQ(
      message(*find_backend("jemalloc"), where),
      "backend jemalloc: no libjemalloc.so.2 in LD_LIBRARY_PATH, the dynamic linker's cache or "
      "the standard folders: install Debian's package libjemalloc2, or name the file by "
      "--backend=jemalloc=PATH");
  EXPECT_EQ(message(*find_backend("mimalloc"), where),
            "backend mimalloc: no libmimalloc.so.2, libmimalloc.so.3 or libmimalloc.so in "
            "LD_LIBRARY_PATH, the dynamic linker's cache or the standard folders: install Debian's "
            "package libmimalloc2.0, or name the file by --backend=mimalloc=PATH");
}

TEST(SearchPath, IsTheLinkers) {
  setenv("LD_LIBRARY_PATH", "/one:;/two", 1);
  const SearchPath path = linker_search_path();
  EXPECT_EQ(path.first, (std::vector<std::string>{"/one", ".", "/two"}));
  unsetenv("LD_LIBRARY_PATH");
  EXPECT_TRUE(linker_search_path().first.empty());
  // The C library is in one of them on any system, and `libc.so.6` not a name made up here.
  const Backend libc = {"libc", {"libc.so.6"}, "libc6", "malloc"};
  EXPECT_TRUE(find_backend_library(libc, {{}, {}, path.standard}).ends_with("/libc.so.6"));
  if (!path.cached.empty()) {
    EXPECT_TRUE(find_backend_library(libc, {{}, path.cached, {}}).ends_with("/libc.so.6"));
  }
}

}  // namespace
}  // namespace tally::tool
