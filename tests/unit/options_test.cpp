#include "runtime/options.h"

#include <signal.h>
#include <unistd.h>

#include <string>

#include "unit.h"

namespace tally::unit {
namespace {

using core::Options;
using core::options;

// The options that an environment of these variables makes. What is said on stderr is checked by
// tests/life.
class OptionsTest : public testing::Test {
 protected:
  const Options& read(std::vector<std::string> variables) {
    std::vector<char*> pointers;
    for (std::string& variable : variables) pointers.push_back(variable.data());
    pointers.push_back(nullptr);
    options = Options{};
    char** saved = environ;
    environ = pointers.data();
    testing::internal::CaptureStderr();
    core::read_options();
    said_ = testing::internal::GetCapturedStderr();
    environ = saved;
    return options;
  }
  bool complained() const { return !said_.empty(); }

 private:
  KeepOptions keep_;
  std::string said_;
};

TEST_F(OptionsTest, Defaults) {
  const Options& o = read({"PATH=/bin", "TALLY", "TALL_REPORT=1"});
  EXPECT_TRUE(o.abort_on_corruption);
  EXPECT_EQ(o.purge_ms, 1000U);
  EXPECT_EQ(o.dump_signal, 0);
  EXPECT_STREQ(o.dump_path, "/tmp/tally-%p.json");
  EXPECT_FALSE(o.report);
  EXPECT_FALSE(complained());
}

TEST_F(OptionsTest, GuardedSamplesAreSampled) {
  EXPECT_EQ(read({}).guard, 0U);
  EXPECT_EQ(read({"TALLY_GUARD=0"}).sample, 0U);
  EXPECT_EQ(read({"TALLY_GUARD=1/7"}).guard, 7U);
  EXPECT_EQ(read({"TALLY_GUARD=1/7"}).sample, 512U * 1024);
  EXPECT_EQ(read({"TALLY_GUARD=on"}).guard, 50U);
  EXPECT_EQ(read({"TALLY_CONF=guard:1/3,sample:4K"}).sample, 4096U);
  EXPECT_FALSE(complained());
  EXPECT_EQ(read({"TALLY_GUARD=1/3", "TALLY_SAMPLE=0"}).guard, 0U);
  EXPECT_TRUE(complained());
  EXPECT_EQ(read({"TALLY_GUARD=3"}).guard, 0U);
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, TagsByThemselves) {
  EXPECT_EQ(read({}).tag_by, core::TagBy::kNone);
  EXPECT_EQ(read({"TALLY_TAG_BY=module"}).tag_by, core::TagBy::kModule);
  EXPECT_EQ(read({"TALLY_CONF=tag_by:module", "TALLY_TAG_BY=thread"}).tag_by, core::TagBy::kThread);
  EXPECT_EQ(read({"TALLY_CONF=tag_by:module", "TALLY_TAG_BY=none"}).tag_by, core::TagBy::kNone);
  EXPECT_STREQ(read({"TALLY_TAGS=/etc/tags"}).tags_path, "/etc/tags");
  EXPECT_FALSE(complained());
  EXPECT_EQ(read({"TALLY_CONF=tag_by:module", "TALLY_TAG_BY=x"}).tag_by, core::TagBy::kModule);
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, EachVariable) {
  const Options& o =
      read({"TALLY_ON_CORRUPTION=report", "TALLY_PURGE_MS=0", "TALLY_DUMP_SIGNAL=SIGUSR2",
            "TALLY_DUMP_PATH=/x/%p", "TALLY_REPORT=/y", "TALLY_BACKEND=os"});
  EXPECT_FALSE(o.abort_on_corruption);
  EXPECT_EQ(o.purge_ms, 0U);
  EXPECT_EQ(o.dump_signal, SIGUSR2);
  EXPECT_STREQ(o.dump_path, "/x/%p");
  EXPECT_TRUE(o.report);
  EXPECT_STREQ(o.report_path, "/y");
  EXPECT_FALSE(complained());
}

TEST_F(OptionsTest, EachKeyOfConf) {
  const Options& o =
      read({"TALLY_CONF=on_corruption:report,,purge_ms:3600000,dump_signal:12,"
            "dump_path:a:b=c,report:1,backend:os,"});
  EXPECT_FALSE(o.abort_on_corruption);
  EXPECT_EQ(o.purge_ms, 3600000U);
  EXPECT_EQ(o.dump_signal, 12);
  EXPECT_STREQ(o.dump_path, "a:b=c");
  EXPECT_TRUE(o.report);
  EXPECT_STREQ(o.report_path, "");
  EXPECT_FALSE(complained());
}

TEST_F(OptionsTest, TheVariableWinsWhereverItStands) {
  EXPECT_EQ(read({"TALLY_PURGE_MS=1", "TALLY_CONF=purge_ms:2"}).purge_ms, 1U);
  EXPECT_EQ(read({"TALLY_CONF=purge_ms:2", "TALLY_PURGE_MS=1"}).purge_ms, 1U);
  EXPECT_FALSE(read({"TALLY_CONF=report:/x", "TALLY_REPORT=0"}).report);
  EXPECT_STREQ(read({"TALLY_CONF=report:/x", "TALLY_REPORT=1"}).report_path, "");
}

TEST_F(OptionsTest, CaseOfTheNameDoesNotMatter) {
  EXPECT_EQ(read({"TALLY_purge_ms=7"}).purge_ms, 7U);
  EXPECT_EQ(read({"TALLY_CONF=PURGE_ms:8"}).purge_ms, 8U);
}

TEST_F(OptionsTest, WhatIsWrongLeavesTheDefault) {
  for (const char* value : {"", "x", "-1", "1x", " 1", "3600001", "99999999999999999999999"}) {
    EXPECT_EQ(read({std::string("TALLY_PURGE_MS=") + value}).purge_ms, 1000U) << value;
    EXPECT_TRUE(complained()) << value;
  }
  for (const char* value : {"", "KILL", "9", "19", "32", "33", "0", "65", "-3", "USR3",
                            "averyverylongnamethatisnosignal"}) {
    EXPECT_EQ(read({std::string("TALLY_DUMP_SIGNAL=") + value}).dump_signal, 0) << value;
    EXPECT_TRUE(complained()) << value;
  }
  EXPECT_TRUE(read({"TALLY_ON_CORRUPTION=Report"}).abort_on_corruption);
  EXPECT_TRUE(complained());
  read({"TALLY_BACKEND=huge"});
  EXPECT_TRUE(complained());
  read({"TALLY_NO_SUCH=1"});
  EXPECT_TRUE(complained());
  EXPECT_EQ(read({"TALLY_CONF=purge_ms,purge_ms=3"}).purge_ms, 1000U);
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, WhatIsWrongLeavesWhatWasSet) {
  EXPECT_TRUE(read({"TALLY_CONF=check:1", "TALLY_CHECK=bad"}).check);
  EXPECT_TRUE(complained());
  EXPECT_STREQ(read({"TALLY_CONF=report:/x", "TALLY_REPORT=2"}).report_path, "/x");
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, AReportMayBeSwitchedByWords) {
  for (const char* word : {"1", "yes", "true", "on", "YES", "True"}) {
    const Options& o = read({"TALLY_CONF=report:/x", std::string("TALLY_REPORT=") + word});
    EXPECT_TRUE(o.report) << word;
    EXPECT_STREQ(o.report_path, "") << word;
    EXPECT_FALSE(complained()) << word;
  }
  for (const char* word : {"0", "no", "false", "off", "OFF"}) {
    EXPECT_FALSE(read({"TALLY_CONF=report:/x", std::string("TALLY_REPORT=") + word}).report)
        << word;
    EXPECT_FALSE(complained()) << word;
  }
  for (const char* word : {"2", "00", "123456789012345678901234567890"}) {
    EXPECT_FALSE(read({std::string("TALLY_REPORT=") + word}).report) << word;
    EXPECT_TRUE(complained()) << word;
  }
  EXPECT_STREQ(read({"TALLY_REPORT=2.json"}).report_path, "2.json");
}

TEST_F(OptionsTest, SpacesAroundPairsDoNotMatter) {
  const Options& o = read({"TALLY_CONF= report:1, purge_ms:200 ,  ,dump_path:/a b "});
  EXPECT_TRUE(o.report);
  EXPECT_EQ(o.purge_ms, 200U);
  EXPECT_STREQ(o.dump_path, "/a b");
  EXPECT_FALSE(complained());
}

TEST_F(OptionsTest, SignalsInAnyCase) {
  for (const char* name : {"USR2", "SIGUSR2", "usr2", "SIGusr2", "sigUsr2"}) {
    EXPECT_EQ(read({std::string("TALLY_DUMP_SIGNAL=") + name}).dump_signal, SIGUSR2) << name;
  }
}

TEST_F(OptionsTest, PathsHaveALimit) {
  std::string longest(core::kOptionPathMax - 1, 'p');
  EXPECT_EQ(read({"TALLY_DUMP_PATH=" + longest}).dump_path, longest);
  EXPECT_FALSE(complained());
  EXPECT_STREQ(read({"TALLY_DUMP_PATH=" + longest + "p"}).dump_path, "/tmp/tally-%p.json");
  EXPECT_TRUE(complained());
  EXPECT_STREQ(read({"TALLY_DUMP_PATH="}).dump_path, "/tmp/tally-%p.json");
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, AReportThatIsRefusedIsNotWritten) {
  EXPECT_FALSE(read({"TALLY_REPORT=" + std::string(core::kOptionPathMax, 'p')}).report);
  EXPECT_TRUE(complained());
  EXPECT_FALSE(read({"TALLY_REPORT="}).report);
  EXPECT_TRUE(complained());
}

TEST_F(OptionsTest, AVeryLongVariableIsSaidInPart) {
  read({"TALLY_" + std::string(100000, 'x') + "=1", "TALLY_CONF=" + std::string(100000, 'y')});
  EXPECT_TRUE(complained());
}

}  // namespace
}  // namespace tally::unit
