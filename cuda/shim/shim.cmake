# The backend on the host shim: the same sources, compiled as C++, with the shim's runtime and its twin of cuBLASLt.

set(shim_options -Wno-unknown-pragmas -Wno-unused-parameter)
set(shim_runtime cuda_host.cpp cuda_runtime_host.cpp device_host.cpp fibers.cpp products_host.cpp
  tensor_host.cpp)
list(TRANSFORM shim_runtime PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/shim/)
set(cuda_headers)
file(GLOB cuda_headers CONFIGURE_DEPENDS *.cuh *.h shim/*.h)

# clang-tidy takes the checks of the wrapper's folder.
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/.clang-tidy ${CMAKE_CURRENT_BINARY_DIR}/wrapped/.clang-tidy COPYONLY)

# nvcc's files are no C++ to a C++ compiler: a source that includes one is. Gives the wrappers of `sources` in
# `kernel_dir`, which may hold a changed copy.
function(wrap_kernels result name kernel_dir)
  set(wrapped)
  foreach(source ${ARGN})
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/wrapped/${name}/${source}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${kernel_dir}/${source}\"\n")
    list(APPEND wrapped ${wrapper})
  endforeach()
  set(${result} ${wrapped} PARENT_SCOPE)
endfunction()

# shim_settings(target kernel_dir options...)
function(shim_settings target kernel_dir)
  target_compile_definitions(${target} PRIVATE LETHE_CUDA_SHIM)
  target_compile_options(${target} PRIVATE ${shim_options} ${ARGN})
  target_include_directories(${target} PRIVATE ${kernel_dir} ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include
    ${CMAKE_SOURCE_DIR}/../tests/native)
  target_link_libraries(${target} PRIVATE lethe_warnings ${CMAKE_DL_LIBS})
endfunction()

# An object for each source, so that a planted fault need not compile the others again.
add_library(shim_runtime OBJECT ${shim_runtime})
shim_settings(shim_runtime ${CMAKE_CURRENT_SOURCE_DIR} -O2)
set(shim_objects $<TARGET_OBJECTS:shim_runtime>)
foreach(source ${cuda_sources})
  wrap_kernels(wrapped objects ${CMAKE_CURRENT_SOURCE_DIR} ${source})
  add_library(shim_${source} OBJECT ${wrapped})
  shim_settings(shim_${source} ${CMAKE_CURRENT_SOURCE_DIR} -O2)
  list(APPEND shim_objects $<TARGET_OBJECTS:shim_${source}>)
endforeach()

# liblethe_cuda_shim.so of objects or sources in `folder`, and the twin of cuBLASLt beside it, where the backend looks
# first: add_shim_backend(target folder "options" objects or sources...)
function(add_shim_backend target folder options)
  add_library(${target} MODULE ${ARGN})
  shim_settings(${target} ${CMAKE_CURRENT_SOURCE_DIR} ${options})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME lethe_cuda_shim LIBRARY_OUTPUT_DIRECTORY ${folder})
  target_link_options(${target} PRIVATE ${options})
  add_library(${target}_blas MODULE ${CMAKE_CURRENT_SOURCE_DIR}/shim/cublaslt_twin.cpp)
  shim_settings(${target}_blas ${CMAKE_CURRENT_SOURCE_DIR} ${options})
  set_target_properties(${target}_blas PROPERTIES PREFIX "" OUTPUT_NAME libcublaslt_twin
    LIBRARY_OUTPUT_DIRECTORY ${folder})
  target_link_options(${target}_blas PRIVATE ${options})
  add_dependencies(${target} ${target}_blas)
endfunction()

add_shim_backend(lethe_cuda_shim ${CMAKE_BINARY_DIR} -O2 ${shim_objects})
target_link_options(lethe_cuda_shim PRIVATE -Wl,--no-undefined)
# With the sanitizers, in a folder of its own. Their reports name lines, not variables: -g1, a quarter sooner than -g.
set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
set(sanitized -O1 -g1 ${sanitizers})
add_library(shim_runtime_sanitized OBJECT ${shim_runtime})
shim_settings(shim_runtime_sanitized ${CMAKE_CURRENT_SOURCE_DIR} ${sanitized})
wrap_kernels(wrapped sanitized ${CMAKE_CURRENT_SOURCE_DIR} ${cuda_sources})
add_library(shim_sanitized OBJECT ${wrapped})
shim_settings(shim_sanitized ${CMAKE_CURRENT_SOURCE_DIR} ${sanitized})
set(sanitized_objects $<TARGET_OBJECTS:shim_runtime_sanitized> $<TARGET_OBJECTS:shim_sanitized>)
add_shim_backend(lethe_cuda_shim_sanitized ${CMAKE_BINARY_DIR}/sanitized "${sanitized}" ${sanitized_objects})
