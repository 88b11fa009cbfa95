#include "heap/callers.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/auxv.h>

#include <string>

#include "heap/allocate.h"
#include "heap/free.h"
#include "heap/thread.h"
#include "os/libc.h"
#include "unit.h"

namespace tally::unit {
namespace {

using core::Callers;
using core::Heap;
using core::tls;

const char* tag_of(const void* p) { return core::find_tag(tally_tag_of(p))->name; }

const void* in_the_linker() { return reinterpret_cast<const void*>(getauxval(AT_BASE) + 64); }
const void* in_libc() { return dlsym(RTLD_DEFAULT, "getpid"); }
const void* in_the_program() { return reinterpret_cast<const void*>(&in_libc); }

TEST(CallersTable, EachModuleHasItsPlace) {
  static Callers callers = {};
  static const char modules[256] = {};
  for (int i = 0; i < 20; ++i) {
    Callers::Known& known = callers.place_of(&modules[i]);
    EXPECT_EQ(known.module, nullptr) << i;
    known.module = &modules[i];
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(callers.place_of(&modules[i]).module, &modules[i]);
  // Where there are too many, one makes room.
  for (const char& module : modules) {
    callers.place_of(&module).module = &module;
    EXPECT_EQ(callers.place_of(&module).module, &module);
  }
}

TEST(CallersTable, HeapsAreForgotten) {
  static Callers callers = {};
  Heap one = {}, two = {};
  callers.pages[3] = {3, &one};
  callers.pages[4] = {4, &two};
  callers.modules[5] = {&one, &one};
  callers.modules[6] = {&two, &two};
  callers.forget(&one);
  EXPECT_EQ(callers.pages[3].heap, nullptr);
  EXPECT_EQ(callers.pages[3].number, Callers::kNoPage);
  EXPECT_EQ(callers.pages[4].heap, &two);
  EXPECT_EQ(callers.modules[5].module, nullptr);
  EXPECT_EQ(callers.modules[6].heap, &two);
}

// As where malloc is Tally's, so that the linker's allocations are seen; here the tests make them.
class ByModule : public testing::Test {
 protected:
  ByModule() {
    core::release_block(core::allocate(1));
    core::options.tag_by = core::TagBy::kModule;
    core::start_by_module();
    tls.heap = &core::empty_heap;
  }
  const char* tag_for(const void* caller, size_t n = 100) {
    void* p = core::allocate_for(caller, n);
    const char* name = tag_of(p);
    core::release_block(p);
    return name;
  }

 private:
  KeepOptions keep_;
};

TEST_F(ByModule, TheCallerDecides) {
  for (size_t n : {1, 100, 9000, 100000}) {
    EXPECT_STREQ(tag_for(in_the_program(), n), "/exe/unit_callers");
    EXPECT_STREQ(tag_for(in_libc(), n), "/lib/libc.so.6");
    EXPECT_STREQ(tag_for(nullptr, n), "/") << "code of nobody's";
  }
  EXPECT_EQ(tls.heap, &core::by_caller);
}

TEST_F(ByModule, WhatIsKnownGoesWithALoad) {
  tag_for(in_libc());
  Heap* known = core::known_heap(tls.thread, in_libc());
  EXPECT_STREQ(known->tag.load()->name, "/lib/libc.so.6");
  core::note_caller(in_the_linker(), 100);  // too short for a module's descriptor
  core::note_caller(in_libc(), 1000);
  EXPECT_EQ(core::known_heap(tls.thread, in_libc()), known);
  tag_for(in_the_linker(), 1000);
  EXPECT_EQ(core::known_heap(tls.thread, in_libc()), &core::empty_heap);
  tag_for(in_libc());
  EXPECT_EQ(core::known_heap(tls.thread, in_libc()), known);
  // Each of the linker's own is looked at.
  EXPECT_EQ(std::string(tag_for(in_the_linker(), 100)).rfind("/lib/ld-linux-", 0), 0U);
  EXPECT_EQ(core::known_heap(tls.thread, in_the_linker()), &core::empty_heap);
}

TEST_F(ByModule, TheLinkerIsSeenWithinAScope) {
  tag_for(in_libc());
  uint64_t loads = core::module_loads.load();
  ASSERT_EQ(tally_tag_push(make_tag("scope")), 0);
  EXPECT_STREQ(tag_for(in_libc(), 1000), "/scope");
  EXPECT_EQ(core::module_loads.load(), loads);
  EXPECT_STREQ(tag_for(in_the_linker(), 1000), "/scope");
  EXPECT_EQ(core::module_loads.load(), loads + 1);
  tally_tag_pop();
}

TEST_F(ByModule, WhereTheLinkerIsNotSeenNothingIsKept) {
  tag_for(in_libc());
  core::check_by_module();  // malloc is libc's in this program
  EXPECT_EQ(core::known_heap(tls.thread, in_libc()), &core::empty_heap);
  for (int i = 0; i < 3; ++i) EXPECT_STREQ(tag_for(in_libc()), "/lib/libc.so.6");
  EXPECT_EQ(core::known_heap(tls.thread, in_libc()), &core::empty_heap);
}

TEST_F(ByModule, AForwarderIsAsked) {
  const void* forwarder = reinterpret_cast<const void*>(&core::check_by_module);
  ASSERT_TRUE(core::is_forwarder(forwarder));
  EXPECT_FALSE(core::is_forwarder(in_the_program()));
  EXPECT_FALSE(core::was_asked());
  EXPECT_EQ(core::allocate_aligned(nullptr, 64, 64, forwarder), nullptr);
  EXPECT_TRUE(core::was_asked());
  EXPECT_FALSE(core::was_asked());
  core::note_forwarded(in_libc());
  EXPECT_EQ(core::forwarded_caller(), in_libc());
}

TEST_F(ByModule, AThreadContinuesWithWhatAnotherKnew) {
  on_thread([&] { EXPECT_STREQ(tag_for(in_libc()), "/lib/libc.so.6"); });
  on_thread([&] {
    EXPECT_STREQ(tag_for(in_the_program()), "/exe/unit_callers");
    EXPECT_STREQ(tag_for(in_libc()), "/lib/libc.so.6");
  });
}

TEST_F(ByModule, RetiredTagsAreNotBroughtBack) {
  tag_for(in_libc());
  ASSERT_EQ(tally_tag_retire(tally_tag_find("/lib/libc.so.6")), 0);
  EXPECT_STREQ(tag_for(in_libc(), 5000), "/lib");
}

TEST(ByThread, TheNameIsLookedAtByTheClockAndBySteps) {
  KeepOptions keep;
  core::release_block(core::allocate(1));
  core::options.tag_by = core::TagBy::kThread;
  on_thread([] {
    auto tag_after = [](const char* name, int steps) {
      EXPECT_EQ(pthread_setname_np(pthread_self(), name), 0);
      for (int i = 1; i < steps; ++i) core::release_block(core::allocate(100000));
      void* p = core::allocate(100000);
      const char* tag = tag_of(p);
      core::release_block(p);
      return tag;
    };
    EXPECT_STREQ(tag_after("first-1", 1), "/thread/first-#");
    EXPECT_STREQ(tag_after("second", 1), "/thread/second");
    EXPECT_STREQ(tag_after("third", 16), "/thread/third");
    for (int i = 0; i < 100; ++i) EXPECT_STREQ(tag_after("third", 1), "/thread/third");
    EXPECT_STREQ(tag_after("fourth", 64), "/thread/fourth");
    EXPECT_EQ(tls.thread->depth, 0U);
    core::os::sleep_ms(20);
    EXPECT_STREQ(tag_after("fifth", 1), "/thread/fifth");
  });
}

}  // namespace
}  // namespace tally::unit
