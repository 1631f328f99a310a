# strop_family(<name> SETS <set>... ONCE <source>... SIMD <source>... CUDA <source>... TORCH <source>...
# NUMPY <source>...): one family, from its own folder. Each source is named here and nowhere else.
#
#   ONCE   contracts, oracle, tasks: compiled once
#   SIMD   kernels: compiled for every instruction set of SETS that the processor family has
#   CUDA   kernels for GPUs
#   TORCH  tables of ops: compiled for each library of ops
#   NUMPY  bindings over arrays
function(strop_family name)
  cmake_parse_arguments(PARSE_ARGV 1 of "" "" "SETS;ONCE;SIMD;CUDA;TORCH;NUMPY")
  foreach(room ONCE SIMD CUDA TORCH NUMPY)
    list(TRANSFORM of_${room} PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  endforeach()
  target_sources(strop_kernels PRIVATE ${of_ONCE})
  if(of_SIMD)
    strop_instruction_sets(${name} "${of_SETS}" "${of_SIMD}")
  endif()
  if(TARGET strop_ops)
    target_sources(strop_ops PRIVATE ${of_TORCH})
    target_sources(_C PRIVATE ${of_NUMPY})
  endif()
  if(TARGET strop_ops_cuda)
    target_sources(strop_ops_cuda PRIVATE ${of_TORCH} ${of_CUDA})
    set_source_files_properties(${of_CUDA} TARGET_DIRECTORY strop_ops_cuda
      PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_property(GLOBAL APPEND PROPERTY STROP_CUDA_SOURCES ${of_CUDA})
  endif()
endfunction()
