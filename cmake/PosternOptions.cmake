# Compiler, warnings, sanitizers, linker and cache: everything that is the same for each target.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

set(POSTERN_SANITIZE "" CACHE STRING "Value for -fsanitize=, for example address,undefined or thread")
option(POSTERN_WERROR "Warnings are errors" OFF)
option(POSTERN_FUZZ "Build *_fuzz.cc, with libFuzzer (clang)" OFF)
option(POSTERN_TESTS "Build unit tests" ON)

find_program(POSTERN_CCACHE ccache)
if(POSTERN_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${POSTERN_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${POSTERN_CCACHE})
endif()
find_program(POSTERN_MOLD mold)
if(POSTERN_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Paths relative to the source tree, so that a compiler cache serves every checkout.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)

add_library(postern_warnings INTERFACE)
target_compile_options(postern_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wimplicit-fallthrough
  # Designated initialisers leave members to their defaults on purpose.
  -Wno-missing-field-initializers)
if(POSTERN_WERROR)
  target_compile_options(postern_warnings INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # libstdc++ 12 sorts with what it calls deprecated, and hides that from g++ alone.
  target_compile_options(postern_warnings INTERFACE -Wno-deprecated-declarations)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND POSTERN_SANITIZE)
  # False positives of g++ 12's flow analysis once sanitizers change the control flow.
  target_compile_options(postern_warnings INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_UNITY_BUILD)
  # g++ takes a .cc that another file includes for a header.
  target_compile_options(postern_warnings INTERFACE -Wno-subobject-linkage)
endif()

if(POSTERN_SANITIZE)
  # What is found ends the program: a report alone would fail no test.
  add_compile_options(-fsanitize=${POSTERN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${POSTERN_SANITIZE})
endif()
if(POSTERN_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(POSTERN_SANITIZE STREQUAL "thread")
  include_directories(BEFORE SYSTEM ${CMAKE_SOURCE_DIR}/cmake/protobuf_tsan)
endif()
