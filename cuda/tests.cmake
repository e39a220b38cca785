# What is tested of the CUDA backend: on the host shim everywhere, and that nvcc compiles it.

set(CMAKE_BUILD_WITH_INSTALL_RPATH OFF)

# ---- the head's row kernel alone ----
add_library(lethe_shim OBJECT ${shim_runtime} ${CMAKE_SOURCE_DIR}/../tests/native/head_shim_test.cpp)
shim_settings(lethe_shim ${CMAKE_CURRENT_SOURCE_DIR} -O2)

function(add_row_test name kernel_dir)
  wrap_kernels(wrapped ${name} ${kernel_dir} head_rows.cu)
  add_executable(${name} ${wrapped} ${ARGN})
  shim_settings(${name} ${kernel_dir})
endfunction()

add_row_test(head_shim_test ${CMAKE_CURRENT_SOURCE_DIR} $<TARGET_OBJECTS:lethe_shim>)
target_compile_options(head_shim_test PRIVATE -O2)
add_test(NAME head-shim COMMAND head_shim_test)

add_row_test(head_shim_sanitized_test ${CMAKE_CURRENT_SOURCE_DIR} ${shim_runtime}
  ${CMAKE_SOURCE_DIR}/../tests/native/head_shim_test.cpp)
target_compile_options(head_shim_sanitized_test PRIVATE -O1 -g ${sanitizers})
target_link_options(head_shim_sanitized_test PRIVATE ${sanitizers})
add_test(NAME head-shim-sanitized COMMAND head_shim_sanitized_test separate)

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
add_gemm_test(gemm_shim_sanitized_test ${CMAKE_BINARY_DIR}/sanitized $<TARGET_OBJECTS:shim_sanitized>
  -O1 -g ${sanitizers})
add_dependencies(gemm_shim_sanitized_test lethe_cuda_shim_sanitized_blas)

# ---- every op through lethe.h, on the shim ----
set(shim_ops activation attention head head_norm linear norm quantize random rotary rows update)
# The sanitized plug-in wants the sanitizers in the program that opens it.
function(add_sanitized_test op)
  add_executable(${op}_sanitized_test ${CMAKE_SOURCE_DIR}/../tests/native/${op}_test.cpp)
  target_compile_options(${op}_sanitized_test PRIVATE -O1 -g ${sanitizers})
  target_compile_definitions(${op}_sanitized_test PRIVATE LETHE_SMALL)
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

# The machine at fault.
add_executable(device_fault_test ${CMAKE_SOURCE_DIR}/../tests/native/device_fault_test.cpp)
target_link_libraries(device_fault_test PRIVATE lethe lethe_warnings ${CMAKE_DL_LIBS})
add_dependencies(device_fault_test lethe_cuda_shim)
add_test(NAME cuda-shim-device-fault COMMAND device_fault_test ${CMAKE_BINARY_DIR})
add_sanitized_test(device_fault)

# The chain from the head rows' hidden states to the updated adapters, beside the CPU's.
add_executable(chain_test ${CMAKE_SOURCE_DIR}/../tests/native/chain_test.cpp)
target_link_libraries(chain_test PRIVATE lethe lethe_warnings)
add_dependencies(chain_test lethe_cuda_shim)
add_test(NAME cuda-shim-chain COMMAND chain_test ${CMAKE_BINARY_DIR} cuda_shim)
set_tests_properties(cuda-shim-chain PROPERTIES ENVIRONMENT "LD_LIBRARY_PATH=${LETHE_DNNL};OMP_WAIT_POLICY=passive")

# ---- planted faults ----
# A kernel with a planted fault must fail by the cases: add_mutant(name file sed-expression).
function(add_mutant name file change)
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/${name})
  add_custom_command(
    OUTPUT ${copy}/${file}
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${copy}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${copy}
    COMMAND bash -c "cp *.cu *.cuh *.h ${copy} && cp -r shim ${copy}/shim"
    COMMAND sed -i.sound "${change}" ${copy}/${file}
    COMMAND bash -c "! cmp -s ${copy}/${file} ${copy}/${file}.sound"
    DEPENDS head_rows.cu ${cuda_headers}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    COMMENT "Planting a fault: ${name}"
    VERBATIM)
  add_custom_target(${name} DEPENDS ${copy}/${file})
  add_row_test(${name}_test ${copy} $<TARGET_OBJECTS:lethe_shim>)
  add_dependencies(${name}_test ${name})
  add_test(NAME mutant-${name} COMMAND ${name}_test small)
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
    DEPENDS ${cuda_sources} ${cuda_headers}
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
  add_dependencies(${name}_backend ${name} ${test}_test)
  add_custom_command(TARGET ${name}_backend POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E create_symlink ${CMAKE_BINARY_DIR}/libcublaslt_twin.so ${copy}/libcublaslt_twin.so)
  add_test(NAME mutant-${name} COMMAND ${test}_test ${copy} cuda_shim)
  set_tests_properties(mutant-${name} PROPERTIES
    PASS_REGULAR_EXPRESSION "[1-9][0-9]* failed|head: [1-9][0-9]* of [0-9]+ checks failed")
endfunction()
add_op_mutant(index_last_unseen rows index.cu "s/i < n; i += blockDim/i < n - 1; i += blockDim/" index.cu)
add_op_mutant(index_barrier_dropped rows index.cu "/is complete/s/__syncthreads();//" index.cu)
add_op_mutant(attention_values_barrier_dropped attention attention_forward.cu
  "/values are there/s/__syncthreads();//" attention_forward.cu)
add_op_mutant(attention_stage_barrier_dropped attention attention_mma.cuh
  "/the stage is there/s/meet<kThreads>();//" attention_backward.cu attention_decode.cu)
add_op_mutant(attention_decode_barrier_dropped attention attention_decode.cu
  "/all warps' sums are there/s/__syncthreads();//" attention_decode.cu)
add_op_mutant(attention_plain_barrier_dropped attention attention_plain.cu
  "/slices are there/s/__syncthreads();//" attention_plain.cu)
add_op_mutant(attention_counts_barrier_dropped attention attention_plan.cu
  "/counts are sums over twice/s/__syncthreads();//" attention_plan.cu)
add_op_mutant(attention_diagonal_long attention attention_mma.cuh
  "s/key < visible; }/key <= visible; }/" attention_backward.cu attention_decode.cu attention_forward.cu)
add_op_mutant(attention_keys_tail_short attention attention_mma.cuh
  "s/begin + r < end ?/begin + r < end - 1 ?/" attention_backward.cu attention_decode.cu attention_forward.cu)
add_op_mutant(attention_window_long attention attention.cuh
  "s/visible(i) - window, 0/visible(i) - window - 1, 0/" attention_forward.cu)
add_op_mutant(attention_last_rows_unseen attention attention.cuh
  "s|(high . group + tile - 1) / tile|high * group / tile|" attention_backward.cu)
add_op_mutant(attention_parents_unseen attention attention.cuh "s/own >= 0; --own/own > 0; --own/"
  attention_backward.cu)
add_op_mutant(attention_last_round_unseen attention attention_decode.cu
  "s/round < unit.rounds; ++round/round < unit.rounds - 1; ++round/" attention_decode.cu)
add_op_mutant(attention_gaps_kept attention attention_plan.cu "s/if (c.plan->covered) return;/return;/"
  attention_plan.cu)

add_mutant(head_store_barrier_dropped head_rows.cu "/loads of tiles/s/__syncthreads();//")
add_mutant(head_store_barrier_once head_rows.cu "/loads of tiles/s/(tile & (tile + 1)) == 0/tile == 0/")
add_mutant(head_written_barrier_dropped common.cuh "/partial is written/s/__syncthreads();//")
add_mutant(head_largest_barrier_dropped common.cuh "/largest is written/s/__syncthreads();//")
add_mutant(head_tail_short head_rows.cu "s/begin + i < V ? row/begin + i < V - 1 ? row/")
add_mutant(head_tail_long head_rows.cu "s/begin + i < V) row/begin + i <= V) row/")
add_mutant(head_finished_barrier_dropped head_logits.cuh "/logits are written/s/__syncthreads();//")
add_mutant(head_cap_slope_dropped head_rows.cu "s/m.scale . m.cap.slope(z.i.) ./m.scale */")
add_mutant(head_cap_difference head_logits.cuh "s/cap . s . ((1.0f - t) . (1.0f + t))/cap * s/")
add_mutant(head_mix_sign head_logits.cuh "s/d -= mix ./d += mix */")
add_mutant(head_mix_from_policy head_logits.cuh "s/cap.difference(u + delta.v., rises/cap.difference(u, rises/")
add_mutant(head_label_shift_sign head_logits.cuh "s/d - label_shift/d + label_shift/")
add_mutant(head_smoothed_ratio head_rows.cu "s/p . m.mean_ratio - p/p - p/")
add_mutant(head_margin_sign head_rows.cu "s/: -m.uniform;/: m.uniform;/")
add_mutant(head_sign head_rows.cu "s/m.mean_delta - delta . m.beta/delta * m.beta - m.mean_delta/")

# ---- with nvcc ----
if(CMAKE_CUDA_COMPILER)
  add_executable(head_bench head_bench.cu $<TARGET_OBJECTS:lethe_cuda_objects>)
  target_include_directories(head_bench PRIVATE ${cuda_includes} ${CMAKE_SOURCE_DIR}/../tests/native)
  target_compile_options(head_bench PRIVATE ${LETHE_CUDA_OPTIONS})
  target_link_libraries(head_bench PRIVATE ${CMAKE_DL_LIBS})
  add_test(NAME cuda-head-bench-without-device COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/no_device_test.sh
    $<TARGET_FILE:head_bench>)
endif()
add_test(NAME cuda-compile COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/compile_test.sh
  ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/lethe_cuda_objects.dir ${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda-compile PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME docs-kernels COMMAND bash ${CMAKE_SOURCE_DIR}/../cmake/kernels-doc.sh --check)
