#include "record/file.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fake_os.h"
#include "record_folder.h"
#include "unit.h"

namespace tally::unit {
namespace {

using record::File;

class FileTest : public testing::Test {
 protected:
  std::string create() {
    return told([&](core::TextWriter& why) { file_.create(folder_.path(), why); });
  }
  RecordFolder folder_;
  File file_;
};

TEST_F(FileTest, IsMadeLockedAndRemoved) {
  EXPECT_EQ(create(), "");
  ASSERT_TRUE(file_.is_open() && file_.is_ours());
  EXPECT_EQ(file_.path(), folder_.mine());
  struct stat found;
  ASSERT_EQ(stat(file_.path(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600U);
  EXPECT_EQ(static_cast<uint64_t>(found.st_size), record::kFileBytes);
  EXPECT_FALSE(ReadRecord(file_.path()).is_dead());
  EXPECT_EQ(file_.write("abc", 3, 5000), 0);
  char text[3];
  EXPECT_TRUE(file_.read(text, 3, 5000));
  EXPECT_EQ(memcmp(text, "abc", 3), 0);
  EXPECT_FALSE(file_.read(text, 3, record::kFileBytes));
  file_.remove();
  EXPECT_EQ(folder_.count(), 0U);
  EXPECT_EQ(file_.write("abc", 3, 0), ESTALE);
}

TEST_F(FileTest, LeftItIsADeadOnes) {
  create();
  file_.leave();
  EXPECT_TRUE(ReadRecord(folder_.mine()).is_dead());
  EXPECT_EQ(create(), "") << "and gives way to the next of this number";
  file_.remove();
}

TEST_F(FileTest, AnotherThatLivesDoesNotGiveWay) {
  int fd = open(folder_.mine().c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  EXPECT_EQ(create(), "cannot make " + folder_.mine() +
                          ": another process of this number, as a container's, has it");
  EXPECT_FALSE(file_.is_open());
  close(fd);
}

TEST_F(FileTest, OfDeadOnesTheNewestStay) {
  const int64_t most = record::kDeadKept;
  for (int64_t i = 1; i <= most + 5; ++i) folder_.leave_dead(1000000 + i, 100000 + i % 7 * 100 + i);
  close(open((std::string(folder_.path()) + "/other").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_EQ(create(), "");
  EXPECT_EQ(folder_.count(), record::kDeadKept + 2);
  EXPECT_NE(access(folder_.file(1000001).c_str(), F_OK), 0);
  EXPECT_EQ(access(folder_.file(1000000 + 20).c_str(), F_OK), 0);
  file_.remove();
}

TEST_F(FileTest, WhatCannotBeMadeIsSaid) {
  std::filesystem::remove_all(folder_.path());
  close(open(folder_.path(), O_CREAT | O_RDWR, 0600));
  EXPECT_EQ(create(), std::string("cannot use ") + folder_.path() +
                          ": it is a link, or no folder: remove it");
  std::filesystem::remove(folder_.path());
  std::filesystem::create_symlink("/tmp", folder_.path());
  EXPECT_EQ(create(), std::string("cannot use ") + folder_.path() +
                          ": it is a link, or no folder: remove it");
  std::filesystem::remove(folder_.path());
  std::filesystem::create_directory(folder_.path());
  chmod(folder_.path(), 0755);
  EXPECT_EQ(create(), std::string("cannot use ") + folder_.path() +
                          ": others may enter it: run chmod 700 " + folder_.path());
  RecordFolder none;
  std::string path = std::string(none.path()) + "/a/b";
  EXPECT_EQ(told([&](core::TextWriter& why) { file_.create(path.c_str(), why); }),
            "cannot make " + path + ": No such file or directory");
}

TEST_F(FileTest, TheLongestFileIsAnErrorAndNoSignal) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  rlimit shorter = {4096, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &shorter), 0);
  EXPECT_EQ(create(), "cannot write " + folder_.mine() + ": File too large");
  EXPECT_EQ(folder_.count(), 0U);
  setrlimit(RLIMIT_FSIZE, &limit);
  create();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &shorter), 0);
  EXPECT_EQ(file_.write("a", 1, 8192), EFBIG);
  setrlimit(RLIMIT_FSIZE, &limit);
  file_.remove();
}

TEST_F(FileTest, IsFoundAgainButNeverConfused) {
  create();
  // All descriptors from some number on now lead to a file of the program's.
  int other = open((std::string(folder_.path()) + "/other").c_str(), O_CREAT | O_RDWR, 0600);
  for (int fd = 190; fd < 230; ++fd) dup2(other, fd);
  EXPECT_EQ(file_.write("abc", 3, 0), ESTALE);
  EXPECT_TRUE(file_.find_again());
  EXPECT_EQ(file_.write("abc", 3, 0), 0);
  EXPECT_FALSE(ReadRecord(folder_.mine()).is_dead());
  struct stat found;
  fstat(other, &found);
  EXPECT_EQ(found.st_size, 0);
  int held = open(folder_.mine().c_str(), O_RDONLY);  // so that nothing else becomes its inode
  for (int fd = 190; fd < 260; ++fd) close(fd);
  std::filesystem::remove(folder_.mine());
  folder_.leave_dead(getpid(), 1);
  EXPECT_FALSE(file_.find_again()) << "that is another one";
  EXPECT_FALSE(file_.is_open());
  file_.remove();
  EXPECT_EQ(access(folder_.mine().c_str(), F_OK), 0) << "nor is that ours to remove";
  close(other);
  close(held);
}

TEST_F(FileTest, AChildThatLetsGoLeavesTheLock) {
  create();
  pid_t pid = fork();
  if (pid == 0) {
    bool was_ours = file_.is_ours();
    file_.leave();
    _exit(was_ours ? 1 : 0);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(ReadRecord(folder_.mine()).is_dead());
  file_.remove();
}

}  // namespace
}  // namespace tally::unit
