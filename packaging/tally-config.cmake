# find_package(tally): the targets tally::malloc, tally::shared, tally::tally, tally::api and tally::hardened, which can be
# asked for as components too.
include(${CMAKE_CURRENT_LIST_DIR}/tally-targets.cmake)
foreach(component IN LISTS tally_FIND_COMPONENTS)
  if(TARGET tally::${component})
    set(tally_${component}_FOUND TRUE)
  elseif(tally_FIND_REQUIRED_${component})
    set(tally_FOUND FALSE)
    set(tally_NOT_FOUND_MESSAGE
      "tally has no component '${component}': it has malloc, shared, tally, api and hardened, and no component needs to be named")
  endif()
endforeach()
