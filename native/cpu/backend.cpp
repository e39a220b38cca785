// The CPU backend's table.
#include <cstdio>

#include "device.h"
#include "gemm.h"
#include "oneapi/dnnl/dnnl.h"

namespace lethe::cpu {
namespace {

#if defined(__AVX512F__)
constexpr const char *kIsa = "avx512";
#else
constexpr const char *kIsa = "avx2";
#endif

bool supported() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
}

int open(const lethe_host *host, const char *, int32_t, int32_t threads, Device **device) {
  if (!supported()) {
    return host->fail(LETHE_NO_DEVICE, __FILE__, __LINE__,
                      "this processor lacks the instructions the library was compiled for; open backend 'cpu'");
  }
  try {
    *device = new Device{host, threads, make_gemm_cache(threads), {}};
    return LETHE_OK;
  } catch (const std::bad_alloc &) {
    return host->fail(LETHE_OUT_OF_MEMORY, __FILE__, __LINE__, "no memory for the device");
  } catch (const std::exception &e) {
    return host->fail(LETHE_INTERNAL, __FILE__, __LINE__, e.what());
  }
}

void close(Device *device) { delete device; }

int describe(Device *device, char *out, int64_t capacity) {
  const dnnl_version_t *dnnl = dnnl_version();
  const int written = std::snprintf(out, static_cast<size_t>(capacity),
                                    R"({"backend":"cpu","isa":"%s","threads":%d,"onednn":"%d.%d.%d"})", kIsa,
                                    device->threads, dnnl->major, dnnl->minor, dnnl->patch);
  if (written < 0 || written >= capacity) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, "capacity is too small for the description");
  }
  return LETHE_OK;
}

lethe_backend make_table() {
  lethe_backend t = {};
  t.abi = LETHE_ABI;
  t.name = "cpu";
  t.open = open;
  t.close = close;
  t.describe = describe;
  t.synchronize = synchronize;
  t.memory = host_memory;
  t.alloc = alloc;
  t.free = free;
  t.write = write;
  t.read = read;
  t.copy = copy;
  t.zero = zero;
  t.alloc_host = alloc_host;
  t.copy_aside = copy_aside;
  t.wait_aside = wait_aside;
  t.convert = convert;
  t.random_normal = random_normal;
  t.nf4_quantize = nf4_quantize;
  t.nf4_dequantize = nf4_dequantize;
  t.norm_forward = norm_forward;
  t.norm_backward = norm_backward;
  t.embedding_forward = embedding_forward;
  t.embedding_backward = embedding_backward;
  t.gather_rows = gather_rows;
  t.scatter_rows = scatter_rows;
  t.linear_forward = linear_forward;
  t.linear_backward = linear_backward;
  t.gradient_norm = gradient_norm;
  t.adamw = adamw;
  t.head_mean = head_mean;
  t.head_workspace = head_workspace;
  t.head_forward = head_forward;
  t.head_combine = head_combine;
  t.head_norm_backward = head_norm_backward;
  t.head_backward = head_backward;
  t.head_sample = head_sample;
  t.rotary = rotary;
  t.attention_forward = attention_forward;
  t.attention_backward = attention_backward;
  t.gated_forward = gated_forward;
  t.gated_backward = gated_backward;
  t.activation_forward = activation_forward;
  t.activation_backward = activation_backward;
  return t;
}

}  // namespace
}  // namespace lethe::cpu

extern "C" LETHE_API const lethe_backend *lethe_backend_init(void) {
  static const lethe_backend table = lethe::cpu::make_table();
  return &table;
}
