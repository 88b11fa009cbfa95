# Tally and its C tests with musl, by Debian's musl-tools. There is no C++ runtime for musl there, and the library needs none:
# libstdc++'s headers do.
set(CMAKE_C_COMPILER musl-gcc)
set(CMAKE_CXX_COMPILER musl-gcc)  # g++ would link libstdc++
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,--eh-frame-hdr)  # which musl's own compilers pass, for stacks
set(CMAKE_SHARED_LINKER_FLAGS_INIT -Wl,--eh-frame-hdr)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

execute_process(COMMAND g++ -print-file-name=include OUTPUT_VARIABLE own OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND g++ -dumpversion OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND g++ -dumpmachine OUTPUT_VARIABLE machine OUTPUT_STRIP_TRAILING_WHITESPACE)
set(CMAKE_CXX_FLAGS_INIT "-nostdinc")
foreach(folder ${CMAKE_CURRENT_LIST_DIR}/musl /usr/include/c++/${version} /usr/include/${machine}/c++/${version}
    /usr/include/x86_64-linux-musl ${own})
  string(APPEND CMAKE_CXX_FLAGS_INIT " -isystem ${folder}")
endforeach()
set(TALLY_TESTS_IN_C ON)
