# strop_find_torch(): an interface target strop_torch for the LibTorch stable ABI of the torch that is
# installed for the Python in use. find_package(Torch) is not used: it fails with a CUDA build of torch
# where there is no CUDA toolkit, and drags in flags that the stable ABI does not need.

# The oldest torch that the built library loads on.
set(STROP_TORCH_TARGET "2.11")
set(STROP_TORCH_TARGET_VERSION "0x020b000000000000ULL")

function(strop_find_torch)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(NOT torch_dir)
    message(FATAL_ERROR
      "torch is not installed for ${Python_EXECUTABLE}. Install torch>=${STROP_TORCH_TARGET} first, "
      "then strop with --no-build-isolation.")
  endif()
  if(NOT EXISTS "${torch_dir}/include/torch/csrc/stable/library.h")
    message(FATAL_ERROR
      "The torch in ${torch_dir} has no stable ABI headers; torch>=${STROP_TORCH_TARGET} is needed.")
  endif()
  find_library(torch_cpu torch_cpu PATHS "${torch_dir}/lib" NO_DEFAULT_PATH NO_CACHE REQUIRED)
  add_library(strop_torch INTERFACE)
  # SYSTEM: torch's headers are not held to our warnings.
  target_include_directories(strop_torch SYSTEM INTERFACE "${torch_dir}/include")
  target_link_libraries(strop_torch INTERFACE "${torch_cpu}")
  target_compile_definitions(strop_torch INTERFACE
    TORCH_TARGET_VERSION=${STROP_TORCH_TARGET_VERSION})
endfunction()
