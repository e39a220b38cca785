# What is tested of the CUDA backend: on the host shim everywhere, and that nvcc compiles it.

set(CMAKE_BUILD_WITH_INSTALL_RPATH OFF)

# ---- the head's row kernels alone ----
set(row_kernels head_rows.cu head_rows_onchip.cu)
add_library(head_shim OBJECT ${CMAKE_SOURCE_DIR}/../tests/native/head_shim_test.cpp)
shim_settings(head_shim ${CMAKE_CURRENT_SOURCE_DIR} -O2)
set(head_shim_objects $<TARGET_OBJECTS:head_shim> $<TARGET_OBJECTS:shim_runtime>)

add_executable(head_shim_test ${head_shim_objects})
foreach(source ${row_kernels})
  target_sources(head_shim_test PRIVATE $<TARGET_OBJECTS:shim_${source}>)
endforeach()
shim_settings(head_shim_test ${CMAKE_CURRENT_SOURCE_DIR})
add_test(NAME head-shim COMMAND head_shim_test full)
# The whole list for each size of cluster, in parts that take a few seconds.
foreach(part 0 1 2)
  foreach(blocks 1 2 4 8)
    add_test(NAME head-shim-onchip-${blocks}-${part} COMMAND head_shim_test full ${blocks} ${part} 3)
  endforeach()
endforeach()

add_executable(head_shim_sanitized_test ${CMAKE_SOURCE_DIR}/../tests/native/head_shim_test.cpp
  $<TARGET_OBJECTS:shim_runtime_sanitized> $<FILTER:$<TARGET_OBJECTS:shim_sanitized>,INCLUDE,/head_rows>)
shim_settings(head_shim_sanitized_test ${CMAKE_CURRENT_SOURCE_DIR} ${sanitized})
target_link_options(head_shim_sanitized_test PRIVATE ${sanitizers})
add_test(NAME head-shim-sanitized COMMAND head_shim_sanitized_test separate)
# Parts of the short list, which turns through its kinds of logits by tens; each has one of the long rows at its end.
add_test(NAME head-shim-sanitized-onchip-1 COMMAND head_shim_sanitized_test separate 1 0 7)
add_test(NAME head-shim-sanitized-onchip-2 COMMAND head_shim_sanitized_test separate 2 6 7)
add_test(NAME head-shim-sanitized-onchip-4 COMMAND head_shim_sanitized_test separate 4 2 11)
add_test(NAME head-shim-sanitized-onchip-8 COMMAND head_shim_sanitized_test separate 8 5 17)

# ---- matrix products alone, over the twin of cuBLASLt: add_gemm_test(name twin's folder, objects, options...) ----
function(add_gemm_test name folder objects)
  add_executable(${name} ${CMAKE_SOURCE_DIR}/../tests/native/gemm_shim_test.cpp ${objects})
  shim_settings(${name} ${CMAKE_CURRENT_SOURCE_DIR} ${ARGN})
  target_link_libraries(${name} PRIVATE lethe)
  target_link_options(${name} PRIVATE ${ARGN})
  string(REPLACE _ - test ${name})
  add_test(NAME ${test} COMMAND ${name} ${folder})
endfunction()
add_gemm_test(gemm_shim_test ${CMAKE_BINARY_DIR} "${shim_objects}" -O2)
add_dependencies(gemm_shim_test lethe_cuda_shim_blas)
add_gemm_test(gemm_shim_sanitized_test ${CMAKE_BINARY_DIR}/sanitized "${sanitized_objects}" ${sanitized})
add_dependencies(gemm_shim_sanitized_test lethe_cuda_shim_sanitized_blas)

# ---- the shim itself ----
foreach(name shim tensor_shim)
  string(REPLACE _ - test ${name})
  foreach(kind "" _sanitized)
    add_executable(${name}${kind}_test ${CMAKE_SOURCE_DIR}/../tests/native/${name}_test.cpp
      $<TARGET_OBJECTS:shim_runtime${kind}>)
    if(kind)
      shim_settings(${name}${kind}_test ${CMAKE_CURRENT_SOURCE_DIR} ${sanitized})
      target_link_options(${name}${kind}_test PRIVATE ${sanitizers})
    else()
      shim_settings(${name}${kind}_test ${CMAKE_CURRENT_SOURCE_DIR} -O2)
    endif()
    add_test(NAME ${test}${kind} COMMAND ${name}${kind}_test)
  endforeach()
endforeach()

# ---- every op through lethe.h, on the shim ----
set(shim_ops activation aside attention head head_norm head_pass head_sample linear linear_nf4 norm quantize random rotary
  rows update update_part)
# The cases with their small lists, once for the sanitizers, the faults and a bundle's tools that slow them down.
function(add_small_cases op)
  if(NOT TARGET ${op}_small)
    add_library(${op}_small OBJECT EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/../tests/native/${op}_test.cpp)
    target_compile_definitions(${op}_small PRIVATE LETHE_SMALL)
    target_compile_options(${op}_small PRIVATE -Os)
    target_link_libraries(${op}_small PRIVATE lethe lethe_warnings)
  endif()
endfunction()
# The sanitized plug-in wants the sanitizers' runtime in the program that opens it; what they check is the plug-in.
function(add_sanitized_test op)
  add_small_cases(${op})
  add_executable(${op}_sanitized_test $<TARGET_OBJECTS:${op}_small>)
  set_target_properties(${op}_sanitized_test PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(${op}_sanitized_test PRIVATE ${sanitizers})
  target_link_libraries(${op}_sanitized_test PRIVATE lethe lethe_warnings ${CMAKE_DL_LIBS})
  add_dependencies(${op}_sanitized_test lethe_cuda_shim_sanitized)
  add_test(NAME cuda-shim-sanitized-${op} COMMAND ${op}_sanitized_test ${CMAKE_BINARY_DIR}/sanitized cuda_shim)
endfunction()
foreach(op ${shim_ops})
  add_dependencies(${op}_test lethe_cuda_shim)
  add_test(NAME cuda-shim-${op} COMMAND ${op}_test ${CMAKE_BINARY_DIR} cuda_shim)
  add_sanitized_test(${op})
endforeach()

# The machine at fault, and machines of several sizes: the shim's knobs.
foreach(name device_fault head_form)
  string(REPLACE _ - test ${name})
  add_executable(${name}_test ${CMAKE_SOURCE_DIR}/../tests/native/${name}_test.cpp)
  target_link_libraries(${name}_test PRIVATE lethe lethe_warnings ${CMAKE_DL_LIBS})
  add_dependencies(${name}_test lethe_cuda_shim)
  add_test(NAME cuda-shim-${test} COMMAND ${name}_test ${CMAKE_BINARY_DIR})
  add_sanitized_test(${name})
endforeach()
# The head's cases with rows on chip.
foreach(op head head_pass)
  add_test(NAME cuda-shim-${op}-onchip COMMAND ${op}_test ${CMAKE_BINARY_DIR} cuda_shim)
  set_tests_properties(cuda-shim-${op}-onchip PROPERTIES ENVIRONMENT LETHE_HEAD_ROWS=auto)
endforeach()

# The chain from the head rows' hidden states to the updated adapters, beside the CPU's.
add_executable(chain_test ${CMAKE_SOURCE_DIR}/../tests/native/chain_test.cpp)
target_link_libraries(chain_test PRIVATE lethe lethe_warnings)
# Beside the other programs that bench/gpu/run takes to a device.
set_target_properties(chain_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests BUILD_RPATH_USE_ORIGIN ON)
add_dependencies(chain_test lethe_cuda_shim)
add_test(NAME cuda-shim-chain COMMAND chain_test ${CMAKE_BINARY_DIR} cuda_shim)
set_tests_properties(cuda-shim-chain PROPERTIES ENVIRONMENT "LD_LIBRARY_PATH=${LETHE_DNNL};OMP_WAIT_POLICY=passive")
add_test(NAME cuda-shim-chain-augmented COMMAND chain_test ${CMAKE_BINARY_DIR} cuda_shim)
set_tests_properties(cuda-shim-chain-augmented PROPERTIES
  ENVIRONMENT "LD_LIBRARY_PATH=${LETHE_DNNL};OMP_WAIT_POLICY=passive;LETHE_LORA_FORM=augmented")
# With both fused forms of the head; the test fails where it ran another.
foreach(form fused_mma fused_wgmma)
  string(REPLACE _ - test ${form})
  add_test(NAME cuda-shim-chain-${test}-head COMMAND chain_test ${CMAKE_BINARY_DIR} cuda_shim ${form})
  set_tests_properties(cuda-shim-chain-${test}-head PROPERTIES
    ENVIRONMENT "LD_LIBRARY_PATH=${LETHE_DNNL};OMP_WAIT_POLICY=passive")
endforeach()

# Graphs, the sizes of the head's chunks and its fused form, beside it.
foreach(name graph head_tune head_fused)
  string(REPLACE _ - test ${name})
  add_executable(${name}_test ${CMAKE_SOURCE_DIR}/../tests/native/${name}_test.cpp)
  target_link_libraries(${name}_test PRIVATE lethe lethe_warnings ${CMAKE_DL_LIBS})
  set_target_properties(${name}_test PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests BUILD_RPATH_USE_ORIGIN ON)
  add_dependencies(${name}_test lethe_cuda_shim)
  add_test(NAME cuda-shim-${test} COMMAND ${name}_test ${CMAKE_BINARY_DIR} cuda_shim)
  add_sanitized_test(${name})
endforeach()

# ---- planted faults ----
# What a copy is made of, by absolute paths: a relative one is also taken for the file of that name in another fault's
# copy, so that several targets make the same copy at the same time.
file(GLOB_RECURSE fault_inputs CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cu ${CMAKE_CURRENT_SOURCE_DIR}/*.cuh
  ${CMAKE_CURRENT_SOURCE_DIR}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/shim/*)
# A kernel with a planted fault must fail by the cases: add_mutant(name file sed-expression [blocks]); blocks: of the
# cluster that keeps a row on chip.
function(add_mutant name file change)
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/${name})
  add_custom_command(
    OUTPUT ${copy}/${file}
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${copy}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${copy}
    COMMAND bash -c "cp *.cu *.cuh *.h ${copy} && cp -r shim ${copy}/shim"
    COMMAND sed -i.sound "${change}" ${copy}/${file}
    COMMAND bash -c "! cmp -s ${copy}/${file} ${copy}/${file}.sound"
    DEPENDS ${fault_inputs}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    COMMENT "Planting a fault: ${name}"
    VERBATIM)
  add_custom_target(${name} DEPENDS ${copy}/${file})
  # A fault in a header is both kernels' fault.
  set(changed ${row_kernels})
  if(file IN_LIST row_kernels)
    set(changed ${file})
  endif()
  wrap_kernels(wrapped ${name} ${copy} ${changed})
  add_executable(${name}_test ${wrapped} ${head_shim_objects})
  foreach(source ${row_kernels})
    if(NOT source IN_LIST changed)
      target_sources(${name}_test PRIVATE $<TARGET_OBJECTS:shim_${source}>)
    endif()
  endforeach()
  shim_settings(${name}_test ${copy})
  add_dependencies(${name}_test ${name})
  set(arguments small)
  if(ARGN)
    set(arguments small ${ARGN} 0 3)
  endif()
  add_test(NAME mutant-${name} COMMAND ${name}_test ${arguments})
  set_tests_properties(mutant-${name} PROPERTIES PASS_REGULAR_EXPRESSION "head shim: FAILED [1-9][0-9]* of")
endfunction()
# The same for an op: add_op_mutant(name test file sed-expression source...). The fault is planted in `file`; `sources`
# are compiled anew with it, the rest of the backend is the sound one's. The op's own test must fail by its cases.
function(add_op_mutant name test file change)
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name})
  add_custom_command(
    OUTPUT ${copy}/source/${file}
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${copy}/source
    COMMAND ${CMAKE_COMMAND} -E make_directory ${copy}/source
    COMMAND bash -c "cp *.cu *.cuh *.h ${copy}/source && cp -r shim ${copy}/source/shim"
    COMMAND sed -i.sound "${change}" ${copy}/source/${file}
    COMMAND bash -c "! cmp -s ${copy}/source/${file} ${copy}/source/${file}.sound"
    DEPENDS ${fault_inputs}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    COMMENT "Planting a fault: ${name}"
    VERBATIM)
  add_custom_target(${name} DEPENDS ${copy}/source/${file})
  wrap_kernels(wrapped ${name} ${copy}/source ${ARGN})
  set(sound)
  foreach(source ${cuda_sources})
    if(NOT ${source} IN_LIST ARGN)
      list(APPEND sound $<TARGET_OBJECTS:shim_${source}>)
    endif()
  endforeach()
  add_library(${name}_backend MODULE ${wrapped} ${sound} $<TARGET_OBJECTS:shim_runtime>)
  shim_settings(${name}_backend ${copy}/source -O2)
  set_target_properties(${name}_backend PROPERTIES OUTPUT_NAME lethe_cuda_shim LIBRARY_OUTPUT_DIRECTORY ${copy})
  add_dependencies(${name}_backend ${name} ${test}_small_test)
  add_custom_command(TARGET ${name}_backend POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E create_symlink ${CMAKE_BINARY_DIR}/libcublaslt_twin.so ${copy}/libcublaslt_twin.so)
  add_test(NAME mutant-${name} COMMAND ${test}_small_test ${copy} cuda_shim)
  set_tests_properties(mutant-${name} PROPERTIES
    PASS_REGULAR_EXPRESSION "[1-9][0-9]* failed|head: [1-9][0-9]* of [0-9]+ checks failed"
    FAIL_REGULAR_EXPRESSION "cannot load backend| 0 passed, ")
endfunction()
include(mutants.cmake)

# ---- with nvcc ----
if(CMAKE_CUDA_COMPILER)
  add_executable(head_bench head_bench.cu $<FILTER:$<TARGET_OBJECTS:lethe_cuda_objects>,INCLUDE,head_rows>)
  target_include_directories(head_bench PRIVATE ${cuda_includes} ${CMAKE_SOURCE_DIR}/../tests/native)
  target_compile_options(head_bench PRIVATE ${LETHE_CUDA_OPTIONS})
  target_link_libraries(head_bench PRIVATE ${CMAKE_DL_LIBS})
  add_test(NAME cuda-head-bench-without-device COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/no_device_test.sh
    $<TARGET_FILE:head_bench> check)
  # The plug-in itself loads everywhere.
  add_test(NAME cuda-without-device COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/no_device_test.sh
    $<TARGET_FILE:kernel_bench> describe ${CMAKE_BINARY_DIR} cuda)
endif()
add_test(NAME cuda-compile COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/compile_test.sh
  ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/lethe_cuda_objects.dir ${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda-compile PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME docs-kernels COMMAND bash ${CMAKE_SOURCE_DIR}/../cmake/kernels-doc.sh --check)
