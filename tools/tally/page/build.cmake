# cmake -D SOURCES= -D FOLDER= -D OUTPUT= -D NPM= -D NODE= -P build.cmake: bundles the page into OUTPUT. If it cannot,
# OUTPUT is empty and OUTPUT.why says why, for a build without it is still a build.
function(give_up why)
  file(WRITE ${OUTPUT}.why "${why}")
  file(WRITE ${OUTPUT} "")
  file(TOUCH ${OUTPUT}.failed)
  message(WARNING "`tally report` and `tally serve` will have no page: ${why}")
endfunction()

if(NOT NPM OR NOT NODE)
  give_up("npm and node were not found when it was built (Debian: npm); install them and build again.")
  return()
endif()

# Not in the source tree: npm makes its folder beside its lock file.
set(work ${FOLDER}/work)
file(GLOB files ${SOURCES}/*.js ${SOURCES}/*.mjs ${SOURCES}/*.css ${SOURCES}/*.html ${SOURCES}/*.json ${SOURCES}/.npmrc)
file(MAKE_DIRECTORY ${work})
file(COPY ${files} DESTINATION ${work})
file(SHA256 ${SOURCES}/package-lock.json lock)
if(NOT EXISTS ${work}/node_modules/${lock})
  execute_process(COMMAND ${NPM} ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=60000
    WORKING_DIRECTORY ${work} RESULT_VARIABLE status OUTPUT_VARIABLE log ERROR_VARIABLE log)
  if(NOT status EQUAL 0)
    message(STATUS "${log}")
    give_up("npm ci failed when it was built (no network?); see what it says, and build again.")
    return()
  endif()
  file(TOUCH ${work}/node_modules/${lock})
endif()
execute_process(COMMAND ${NODE} build.mjs ${OUTPUT}
  WORKING_DIRECTORY ${work} RESULT_VARIABLE status OUTPUT_VARIABLE log ERROR_VARIABLE log)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the page cannot be bundled:\n${log}")
endif()
file(WRITE ${OUTPUT}.why "")
