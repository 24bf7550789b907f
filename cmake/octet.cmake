# octet_library, octet_test, octet_benchmark: the only ways this project declares targets.
include_guard(GLOBAL)
include(GoogleTest)

set(OCTET_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Wno-sign-conversion
    -Wno-maybe-uninitialized -Wno-uninitialized)  # false positives inside absl::InlinedVector with GCC 14

function(_octet_common name)
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE ${OCTET_WARNINGS})
endfunction()

# octet_library(base SRCS a.cc HDRS a.h DEPS absl::status): a static library named octet_base, alias octet::base.
function(octet_library name)
  cmake_parse_arguments(A "" "" "SRCS;HDRS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(A_SRCS)
    add_library(octet_${name} STATIC ${A_SRCS} ${A_HDRS})
    _octet_common(octet_${name})
    target_link_libraries(octet_${name} PUBLIC ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS})
  else()
    add_library(octet_${name} INTERFACE ${A_HDRS})
    target_include_directories(octet_${name} INTERFACE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(octet_${name} INTERFACE ${A_DEPS})
  endif()
  add_library(octet::${name} ALIAS octet_${name})
endfunction()

# Under TSan, Debian's uninstrumented Abseil mutexes are made visible (cmake/tsan_absl.cc).
string(TOUPPER "${CMAKE_BUILD_TYPE}" _octet_build_type)
function(_octet_tsan name)
  if(NOT "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${_octet_build_type}}" MATCHES "sanitize=thread")
    return()
  endif()
  target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/cmake/tsan_absl.cc")
  foreach(symbol Mutex4LockEv Mutex6UnlockEv Mutex10ReaderLockEv Mutex12ReaderUnlockEv Mutex4DtorEv
      CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE)
    if(symbol MATCHES "^Mutex")
      target_link_options(${name} PRIVATE "-Wl,--wrap=_ZN4absl7debian75${symbol}")
    else()
      target_link_options(${name} PRIVATE "-Wl,--wrap=_ZN4absl7debian77${symbol}")
    endif()
  endforeach()
endfunction()

# octet_test(base_test SRCS a_test.cc DEPS octet::base [LABELS sanitize] [TIMEOUT 120]): one GoogleTest program, one ctest
# entry. Label `sanitize` marks what the ASan+UBSan run repeats. Tests find shared models under OCTET_SHARED.
function(octet_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SRCS;DEPS;LABELS;ARGS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${name} ${A_SRCS})
  _octet_common(${name})
  target_link_libraries(${name} PRIVATE ${A_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  _octet_tsan(${name})
  target_compile_definitions(${name} PRIVATE
    OCTET_SOURCE_DIR="${PROJECT_SOURCE_DIR}" OCTET_SHARED="${PROJECT_SOURCE_DIR}/../shared")
  add_test(NAME ${name} COMMAND ${name} ${A_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
endfunction()

# octet_benchmark(conv_benchmark SRCS a_benchmark.cc DEPS octet::kernels): a Google Benchmark program; never a test.
function(octet_benchmark name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${A_SRCS})
  _octet_common(${name})
  target_compile_definitions(${name} PRIVATE OCTET_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${A_DEPS} benchmark::benchmark benchmark::benchmark_main)
endfunction()
