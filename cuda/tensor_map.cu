// Tensor maps: the driver encodes them, whose function is asked for by name, as nothing is linked against the driver.
#include "tma.cuh"

namespace lethe::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

cudaError_t ask_driver(void **function, cudaDriverEntryPointQueryResult *result) {
  constexpr const char *kName = "cuTensorMapEncodeTiled";
#if defined(LETHE_CUDA_SHIM) || CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  return cudaGetDriverEntryPointByVersion(kName, function, kSince, cudaEnableDefault, result);
#else
  return cudaGetDriverEntryPoint(kName, function, cudaEnableDefault, result);
#endif
}

}  // namespace

int require_tensor_maps(Device *device) {
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = ask_driver(&device->encode_tensor_map, &result);
  if (error == cudaSuccess && result == cudaDriverEntryPointSuccess && device->encode_tensor_map != nullptr) {
    return LETHE_OK;
  }
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED,
                         "the NVIDIA driver has no cuTensorMapEncodeTiled, which LETHE_HEAD_FORM=fused needs on this "
                         "device; update it, or set LETHE_HEAD_FORM=fused_mma");
}

int tensor_map(Device *device, const Boxes &b, CUtensorMap *map) {
  const auto encode = reinterpret_cast<Encode>(device->encode_tensor_map);
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(b.columns), static_cast<cuuint64_t>(b.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(b.ld) * 2};
  const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(b.box_rows)}, steps[] = {1, 1};
  const CUresult answer = encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void *>(b.matrix), sizes, strides,
                                 box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (answer == CUDA_SUCCESS) return LETHE_OK;
  return LETHE_CUDA_FAIL(device, LETHE_INTERNAL,
                         "the driver refuses a tensor map of " + std::to_string(b.rows) + " x " +
                             std::to_string(b.columns) + " numbers: error " + std::to_string(answer));
}

}  // namespace lethe::cuda
