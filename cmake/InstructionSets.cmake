# Instruction sets: those of the processor family that is built for, and how each is compiled.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(STROP_ISAS baseline avx2 avx2_vnni avx512 avx512_vnni amx)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(STROP_ISAS baseline neon neon_dot neon_i8mm)
else()
  set(STROP_ISAS baseline)
endif()

set(STROP_FLAGS_baseline "")
set(STROP_FLAGS_neon -DSTROP_NEON)
set(STROP_FLAGS_neon_dot -DSTROP_NEON -DSTROP_NEON_DOT -march=armv8.2-a+dotprod)
set(STROP_FLAGS_neon_i8mm -DSTROP_NEON -DSTROP_NEON_DOT -march=armv8.2-a+dotprod+i8mm)
set(STROP_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(STROP_FLAGS_avx512 ${STROP_FLAGS_avx2}
  -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++'s own intrinsics leave a register undefined on purpose, and g++ then warns about it.
  list(APPEND STROP_FLAGS_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

set(STROP_FLAGS_avx2_vnni ${STROP_FLAGS_avx2} -mavxvnni)
set(STROP_FLAGS_avx512_vnni ${STROP_FLAGS_avx512} -mavx512vnni -mavx512vbmi2 -mavx512bf16)
set(STROP_FLAGS_amx ${STROP_FLAGS_avx512_vnni} -mamx-tile -mamx-int8 -mamx-bf16)

# strop_instruction_sets(<family> <sets> <sources>): compiles the sources once for each of the sets
# that the processor family has, in the namespace STROP_ISA of the set, and links all of them into
# strop_kernels, with the index of the family's tables of kernels. csrc/core/isa.cpp chooses among
# them at run time.
function(strop_instruction_sets family sets sources)
  set(level -O3)
  if(STROP_SANITIZE)
    set(level -O1)  # checks in code that is inlined throughout take the optimizer minutes
  endif()
  set(declarations "")
  set(tables "")
  foreach(isa IN LISTS sets)
    if(NOT isa IN_LIST STROP_ISAS)
      continue()
    endif()
    set(objects strop_${family}_${isa})
    add_library(${objects} OBJECT ${sources})
    strop_target(${objects})
    target_compile_options(${objects} PRIVATE ${level} ${STROP_FLAGS_${isa}})
    target_compile_definitions(${objects} PRIVATE STROP_ISA=${isa})
    target_sources(strop_kernels PRIVATE $<TARGET_OBJECTS:${objects}>)
    string(APPEND declarations "namespace simd::${isa} {\nextern const Kernels kernels;\n}\n")
    string(APPEND tables "    {\"${isa}\", &simd::${isa}::kernels},\n")
  endforeach()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/kernel_sets.cpp)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/kernel_sets.cpp.in ${source} @ONLY)
  target_sources(strop_kernels PRIVATE ${source})
endfunction()
