# strop_target(<target>): what every target of ours is compiled with.
function(strop_target target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:
    -Wall -Wextra -Wshadow -Wundef -Wnon-virtual-dtor
    # Vectors are passed between functions that are always inlined.
    -Wno-psabi
    # Results agree to the bit on every instruction set: an FMA would round once instead of twice.
    -ffp-contract=off
    $<$<BOOL:${STROP_WERROR}>:-Werror>>)
  if(STROP_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${STROP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
    target_link_options(${target} PRIVATE -fsanitize=${STROP_SANITIZE})
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT STROP_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,--as-needed)
  endif()
endfunction()
