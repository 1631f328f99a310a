# The CUDA kernels. They are compiled wherever nvcc is found, also for a CPU build of torch:
# STROP_CUDA=AUTO does so, ON insists, OFF leaves them out.

set(STROP_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO where nvcc is found, ON, OFF")
set_property(CACHE STROP_CUDA PROPERTY STRINGS AUTO ON OFF)
set(STROP_CUDA_ARCHITECTURES "80-real;90-real;120" CACHE STRING
  "GPUs to build for; one without -real brings PTX for those that come after it")
option(STROP_CUDA_OPTIMIZE "Optimize the CUDA kernels: without, they compile in a third of the time" ON)

# strop_find_cuda(): sets STROP_WITH_CUDA, and enables the language where it is on.
macro(strop_find_cuda)
  set(STROP_WITH_CUDA OFF)
  set(STROP_CUDA_NAMES "")
  if(STROP_CUDA)
    # On the PATH, in the toolkit's own place, or from the package nvidia-cuda-nvcc.
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
      OUTPUT_VARIABLE strop_site OUTPUT_STRIP_TRAILING_WHITESPACE)
    find_program(STROP_NVCC nvcc
      HINTS ENV CUDA_HOME ENV CUDA_PATH
      PATHS /usr/local/cuda ${strop_site}/nvidia/cu13 ${strop_site}/nvidia/cuda_nvcc
      PATH_SUFFIXES bin)
    if(STROP_NVCC)
      set(CMAKE_CUDA_COMPILER ${STROP_NVCC})
      set(CMAKE_CUDA_ARCHITECTURES ${STROP_CUDA_ARCHITECTURES})
      set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
      set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
      # Python packages keep the runtime in lib/, where nvcc does not look.
      cmake_path(GET STROP_NVCC PARENT_PATH strop_toolkit)
      cmake_path(GET strop_toolkit PARENT_PATH strop_toolkit)
      if(EXISTS ${strop_toolkit}/lib/libcudart_static.a)
        string(APPEND CMAKE_CUDA_FLAGS " -L${strop_toolkit}/lib")
      endif()
      enable_language(CUDA)
      set(STROP_WITH_CUDA ON)
      # 80-real;120 -> sm_80,sm_120 and PTX
      list(TRANSFORM STROP_CUDA_ARCHITECTURES PREPEND "sm_" OUTPUT_VARIABLE STROP_CUDA_NAMES)
      list(TRANSFORM STROP_CUDA_NAMES REPLACE "([0-9]+a?)$" "\\1 and PTX")
      string(REPLACE "-real" "" STROP_CUDA_NAMES "${STROP_CUDA_NAMES}")
      string(REPLACE ";" "," STROP_CUDA_NAMES "${STROP_CUDA_NAMES}")
    elseif(NOT STROP_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "STROP_CUDA is ${STROP_CUDA}, and nvcc is not found")
    endif()
  endif()
endmacro()

# strop_cuda_target(<target>): how the CUDA sources of a target are compiled.
function(strop_cuda_target target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    -std=c++20 --expt-relaxed-constexpr
    # To the bit as on the CPU: an FMA would round once instead of twice.
    -fmad=false
    --threads=0
    $<$<BOOL:${STROP_WERROR}>:-Werror=all-warnings>>)
  if(NOT STROP_CUDA_OPTIMIZE)
    set(quick -Xptxas=-O1)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
      set(quick -Ofc=max)
    endif()
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${quick}>)
  endif()
  target_compile_definitions(${target} PRIVATE USE_CUDA)
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
endfunction()
