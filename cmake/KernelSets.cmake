# strop_kernel_sets(<target> <name> <type> <header> <set>...): a source for the target with the index of
# a family's kernels by instruction set, of which each set has a table of that name and type.
function(strop_kernel_sets target name type header)
  set(declarations "")
  set(tables "")
  foreach(isa IN LISTS ARGN)
    string(APPEND declarations "namespace ${isa} {\nextern const ${type} ${name};\n}\n")
    string(APPEND tables "    {\"${isa}\", &${isa}::${name}},\n")
  endforeach()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/kernel_sets/${name}.cpp)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/kernel_sets.cpp.in ${source} @ONLY)
  target_sources(${target} PRIVATE ${source})
endfunction()
