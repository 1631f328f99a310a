# strop_add_instruction_sets(<target> <source>...): compiles the sources once for every instruction
# set of the processor family, each in the namespace STROP_ISA of its set, and links all of them into
# the target. csrc/core/isa.cpp chooses among them at run time.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(STROP_ISAS baseline avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(STROP_ISAS baseline neon)
else()
  set(STROP_ISAS baseline)
endif()

set(STROP_FLAGS_baseline "")
set(STROP_FLAGS_neon -DSTROP_NEON)
set(STROP_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(STROP_FLAGS_avx512 ${STROP_FLAGS_avx2}
  -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++'s own intrinsics leave a register undefined on purpose, and g++ then warns about it.
  list(APPEND STROP_FLAGS_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

function(strop_add_instruction_sets target)
  set(level -O3)
  if(STROP_SANITIZE)
    set(level -O1)  # checks in code that is inlined throughout take the optimizer minutes
  endif()
  foreach(isa IN LISTS STROP_ISAS)
    set(objects ${target}_${isa})
    add_library(${objects} OBJECT ${ARGN})
    strop_target(${objects})
    target_compile_options(${objects} PRIVATE ${level} ${STROP_FLAGS_${isa}})
    target_compile_definitions(${objects} PRIVATE STROP_ISA=${isa})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
endfunction()
