// The CUDA backend's table: opening a device, what it is, and where errors of the runtime become statuses.
#include <cstdio>

#include "gemm.h"

namespace lethe::cuda {

int fail(const Device *device, int status, const char *file, int line, const std::string &message) {
  return device->host->fail(status, file, line, message.c_str());
}

namespace {

std::string bytes_text(int64_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%lld bytes (%.2f GiB)", static_cast<long long>(bytes),
                static_cast<double>(bytes) / static_cast<double>(int64_t{1} << 30));
  return text;
}

std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (CUDA error " + std::to_string(static_cast<int>(error)) + ")";
}

int no_device(const lethe_host *host, int line, const std::string &why) {
  return host->fail(LETHE_NO_DEVICE, __FILE__, line, why.c_str());
}

// The first device's architecture that this library has code for.
constexpr int kOldestMajor = 8;

int check_device(const lethe_host *host, int32_t ordinal, cudaDeviceProp *properties) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
    return no_device(host, __LINE__,
                     driver == 0
                         ? "no CUDA device: no NVIDIA driver is installed, or it is not visible here; install "
                           "one, or use device=cpu"
                         : "no CUDA device: the driver supports CUDA " + version(driver) + ", this library needs " +
                               version(runtime / 1000 * 1000) + " or newer; update the driver, or use device=cpu");
  }
  if (error != cudaSuccess || count == 0) {
    return no_device(host, __LINE__,
                     "no CUDA device: " + (error == cudaSuccess ? std::string("none is visible") : error_text(error)) +
                         "; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use device=cpu");
  }
  if (ordinal < 0 || ordinal >= count) {
    return no_device(host, __LINE__,
                     "there is no cuda:" + std::to_string(ordinal) + ": " + std::to_string(count) +
                         " CUDA devices are visible; use cuda:0" +
                         (count > 1 ? " to cuda:" + std::to_string(count - 1) : ""));
  }
  const cudaError_t asked = cudaGetDeviceProperties(properties, ordinal);
  if (asked != cudaSuccess)
    return no_device(host, __LINE__, "cuda:" + std::to_string(ordinal) + ": " + error_text(asked));
  if (properties->major < kOldestMajor) {
    return no_device(host, __LINE__,
                     std::string(properties->name) + " is of compute capability " + std::to_string(properties->major) +
                         "." + std::to_string(properties->minor) +
                         "; the kernels need 8.0 (Ampere) or newer; use device=cpu");
  }
  return LETHE_OK;
}

// An architecture without code in this library shows with the first launch.
__global__ void probe_kernel(int *closed, int *tickets) {
  if (threadIdx.x == 0) *closed = *tickets = 0;
}

int make_fault_record(Device *device) {
  void *memory = nullptr, *seen = nullptr;
  LETHE_CUDA_CALL(device, cudaMalloc(&memory, 2 * sizeof(int)));
  device->fault.closed = static_cast<int *>(memory);
  device->tickets = device->fault.closed + 1;
  LETHE_CUDA_CALL(device, cudaHostAlloc(&memory, sizeof(Fault), cudaHostAllocMapped));
  device->fault.host = static_cast<Fault *>(memory);
  *device->fault.host = Fault{};
  LETHE_CUDA_CALL(device, cudaHostGetDevicePointer(&seen, memory, 0));
  device->fault.device = static_cast<Fault *>(seen);
  const Shape shape = {"probe", {}, kWarp};
  const cudaError_t error = launch_on(device->stream, shape, probe_kernel, device->fault.closed, device->tickets);
  const cudaError_t done = error == cudaSuccess ? cudaStreamSynchronize(device->stream) : error;
  if (done == cudaErrorMemoryAllocation) return fail_cuda(device, done, __FILE__, __LINE__, "the first launch");
  if (done != cudaSuccess) {
    return LETHE_CUDA_FAIL(device, LETHE_NO_DEVICE,
                           std::string("this build has no code for ") + device->properties.name +
                               " (compute capability " + std::to_string(device->properties.major) + "." +
                               std::to_string(device->properties.minor) + "): " + error_text(done) +
                               "; build Lethe with the Maven profile cuda-all, or use device=cpu");
  }
  return LETHE_OK;
}

// What leaves a context without a way back. Numbers, as older toolkits and the shim lack some of the names.
bool fatal(cudaError_t error) {
  switch (static_cast<int>(error)) {
    case 214:  // cudaErrorECCUncorrectable
    case 220:  // cudaErrorNvlinkUncorrectable
    case 226:  // cudaErrorContained
    case 700:  // cudaErrorIllegalAddress
    case 702:  // cudaErrorLaunchTimeout
    case 709:  // cudaErrorContextIsDestroyed
    case 710:  // cudaErrorAssert
    case 714:  // cudaErrorHardwareStackError
    case 715:  // cudaErrorIllegalInstruction
    case 716:  // cudaErrorMisalignedAddress
    case 717:  // cudaErrorInvalidAddressSpace
    case 718:  // cudaErrorInvalidPc
    case 719:  // cudaErrorLaunchFailure
    case 721:  // cudaErrorTensorMemoryLeak
    case 810:  // cudaErrorMpsClientTerminated
    case 911:  // cudaErrorExternalDevice
    case 999:  // cudaErrorUnknown
      return true;
    default:
      return false;
  }
}

void close(Device *device) {
  cudaSetDevice(device->ordinal);
  close_graphs(device);
  if (device->stream != nullptr) cudaStreamSynchronize(device->stream);
  device->blas.reset();
  device->staging.reset();
  device->aside.reset();
  if (device->scratch != nullptr) cudaFreeAsync(device->scratch, device->stream);
  cudaFree(device->fault.closed);
  cudaFreeHost(device->fault.host);
  if (device->own != nullptr) {
    cudaStreamSynchronize(device->own);
    cudaStreamDestroy(device->own);
  }
  delete device;
}

int prepare(Device *device, const char *plugin_dir) {
  // Here the context is made.
  const cudaError_t current = cudaSetDevice(device->ordinal);
  if (current != cudaSuccess && current != cudaErrorMemoryAllocation && !fatal(current)) {
    return no_device(device->host, __LINE__,
                     "cuda:" + std::to_string(device->ordinal) + ": " + error_text(current) +
                         "; look at nvidia-smi for who has it, or use device=cpu");
  }
  LETHE_CUDA_CALL(device, current);
  LETHE_CUDA_CALL(device, cudaStreamCreateWithFlags(&device->own, cudaStreamNonBlocking));
  device->stream = device->own;
  LETHE_CUDA_TRY(make_fault_record(device));
  LETHE_CUDA_TRY(choose_forms(device));
  return open_blas(device, plugin_dir);
}

int open(const lethe_host *host, const char *plugin_dir, int32_t ordinal, int32_t, Device **opened) {
  try {
    auto device = std::make_unique<Device>();
    device->host = host;
    device->ordinal = ordinal;
    LETHE_CUDA_TRY(read_forms(device.get()));
    LETHE_CUDA_TRY(check_device(host, ordinal, &device->properties));
    Device *raw = device.release();
    const int status = prepare(raw, plugin_dir);
    if (status != LETHE_OK) {
      close(raw);
      return status;
    }
    *opened = raw;
    return LETHE_OK;
  } catch (const std::bad_alloc &) {
    return host->fail(LETHE_OUT_OF_MEMORY, __FILE__, __LINE__, "no host memory for the device");
  } catch (const std::exception &e) {
    return host->fail(LETHE_INTERNAL, __FILE__, __LINE__, e.what());
  }
}

int describe(Device *device, char *out, int64_t capacity) {
  return run(device, __func__, [&] {
    int driver = 0, runtime = 0;
    LETHE_CUDA_CALL(device, cudaDriverGetVersion(&driver));
    LETHE_CUDA_CALL(device, cudaRuntimeGetVersion(&runtime));
    const cudaDeviceProp &p = device->properties;
    const int written = std::snprintf(
        out, static_cast<size_t>(capacity),
        R"({"backend":"cuda","device":"%s","capability":"%d.%d","multiprocessors":%d,"memory":%lld,"driver":%d,"runtime":%d,"blas":"%s",%s})",
        p.name, p.major, p.minor, p.multiProcessorCount, static_cast<long long>(p.totalGlobalMem), driver, runtime,
        blas_version(device).c_str(), forms_text(device).c_str());
    if (written < 0 || written >= capacity) {
      return LETHE_CUDA_FAIL(device, LETHE_INVALID_ARGUMENT, "capacity is too small for the description");
    }
    return static_cast<int>(LETHE_OK);
  });
}

int memory(Device *device, int64_t *free_bytes, int64_t *total_bytes) {
  return run(device, __func__, [&] {
    size_t left = 0, all = 0;
    LETHE_CUDA_CALL(device, cudaMemGetInfo(&left, &all));
    *free_bytes = static_cast<int64_t>(left);
    *total_bytes = static_cast<int64_t>(all);
    return static_cast<int>(LETHE_OK);
  });
}

int stream(Device *device, void **out) {
  return run(device, __func__, [&] {
    *out = device->stream;
    return static_cast<int>(LETHE_OK);
  });
}

// The new stream waits for what the old one was given.
int use_stream(Device *device, void *given) {
  return run(device, __func__, [&] {
    const auto next = given == nullptr ? device->own : static_cast<cudaStream_t>(given);
    if (next == device->stream) return static_cast<int>(LETHE_OK);
    cudaEvent_t given_so_far = nullptr;
    LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&given_so_far, cudaEventDisableTiming));
    cudaError_t error = cudaEventRecord(given_so_far, device->stream);
    if (error == cudaSuccess) error = cudaStreamWaitEvent(next, given_so_far, 0);
    cudaEventDestroy(given_so_far);
    LETHE_CUDA_CALL(device, error);
    device->stream = next;
    return static_cast<int>(LETHE_OK);
  });
}

int record_launches(Device *device, int32_t on) {
  return run(device, __func__, [&] {
    device->recording = on != 0;
    if (device->recording) device->records.clear();
    return static_cast<int>(LETHE_OK);
  });
}

int launches(Device *device, char *out, int64_t capacity, int64_t *needed) {
  return run(device, __func__, [&] {
    std::string all;
    for (const std::string &line : device->records) all += line + "\n";
    *needed = static_cast<int64_t>(all.size()) + 1;
    if (capacity > 0) std::snprintf(out, static_cast<size_t>(capacity), "%s", all.c_str());
    return static_cast<int>(LETHE_OK);
  });
}

int wrap(Device *device, void *address, int64_t) {
  return run(device, __func__, [&] {
    cudaPointerAttributes attributes = {};
    LETHE_CUDA_CALL(device, cudaPointerGetAttributes(&attributes, address));
    if (attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost ||
        attributes.device != device->ordinal) {
      return LETHE_CUDA_FAIL(device, LETHE_INVALID_ARGUMENT,
                             attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost
                                 ? "the address is host memory; give memory of cuda:" + std::to_string(device->ordinal)
                                 : "the address is memory of cuda:" + std::to_string(attributes.device) +
                                       ", the engine is on cuda:" + std::to_string(device->ordinal));
    }
    return static_cast<int>(LETHE_OK);
  });
}

lethe_backend make_table() {
  lethe_backend t = {};
  t.abi = LETHE_ABI;
  t.name = "cuda";
  t.open = open;
  t.close = close;
  t.describe = describe;
  t.synchronize = synchronize;
  t.memory = memory;
  t.reserve_scratch = reserve_scratch;
  t.stream = stream;
  t.use_stream = use_stream;
  t.record_launches = record_launches;
  t.launches = launches;
  t.graph_begin = graph_begin;
  t.graph_end = graph_end;
  t.graph_launch = graph_launch;
  t.graph_close = graph_close;
  t.wrap = wrap;
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
  t.linear_spare = linear_spare;
  t.rotary = rotary;
  t.attention_forward = attention_forward;
  t.attention_backward = attention_backward;
  t.gated_forward = gated_forward;
  t.gated_backward = gated_backward;
  t.activation_forward = activation_forward;
  t.activation_backward = activation_backward;
  t.head_mean = head_mean;
  t.head_workspace = head_workspace;
  t.head_forward = head_forward;
  t.head_set_chunk = head_set_chunk;
  t.head_chunk = head_chunk;
  t.head_set_tiles = head_set_tiles;
  t.head_tiles = head_tiles;
  t.head_tune = head_tune;
  t.head_combine = head_combine;
  t.head_norm_backward = head_norm_backward;
  t.head_backward = head_backward;
  t.head_sample = head_sample;
  t.gradient_norm = gradient_norm;
  t.adamw = adamw;
  t.gradient_norm_part = gradient_norm_part;
  t.adamw_part = adamw_part;
  return t;
}

}  // namespace

int fail_cuda(Device *device, cudaError_t error, const char *file, int line, const char *what) {
  cudaGetLastError();  // so that the next call does not answer with it again
  if (error == cudaErrorMemoryAllocation) {
    return fail(device, LETHE_OUT_OF_MEMORY, file, line, std::string(what) + ": out of device memory");
  }
  if (fatal(error)) {
    const std::string when = device->fault.op[0] == '\0' ? "" : std::string(" (noticed in ") + device->fault.op + ")";
    device->lost = error_text(error) + when;
    return fail(device, LETHE_DEVICE_LOST, file, line,
                std::string(what) + ": " + device->lost +
                    "; the device's context is beyond use, and nothing computed since the last wait is right: end this "
                    "process, resume from the last checkpoint, and report it as a bug of Lethe");
  }
  return fail(device, LETHE_INTERNAL, file, line, std::string(what) + ": " + error_text(error));
}

int enter(Device *device) {
  if (!device->lost.empty()) {
    return LETHE_CUDA_FAIL(device, LETHE_DEVICE_LOST,
                           "the device was lost before: " + device->lost + "; end this process and start anew");
  }
  const cudaError_t error = cudaSetDevice(device->ordinal);
  return error == cudaSuccess ? static_cast<int>(LETHE_OK)
                              : fail_cuda(device, error, __FILE__, __LINE__, "cudaSetDevice");
}

void record(Device *device, const std::string &line) {
  if (!device->recording) return;
  device->records.push_back(device->capturing ? line.substr(0, line.size() - 1) + R"(,"captured":true})" : line);
}

void record_launch(Device *device, const Shape &s) {
  record(device, std::string(R"({"op":")") + device->fault.op + R"(","kernel":")" + s.name + R"(","grid":[)" +
                     std::to_string(s.grid.x) + "," + std::to_string(s.grid.y) + "," + std::to_string(s.grid.z) +
                     R"(],"threads":)" + std::to_string(s.threads) + R"(,"shared":)" + std::to_string(s.shared) +
                     R"(,"bytes":)" + std::to_string(s.bytes) +
                     (s.cluster > 1 ? R"(,"cluster":)" + std::to_string(s.cluster) : "") + "}");
}

// Says what was asked for, what is free, and what this engine holds; the rest is known to the caller alone.
int out_of_memory(Device *device, int64_t asked, const char *what, const char *file, int line) {
  cudaGetLastError();  // so that the next call does not answer with it again
  size_t left = 0, all = 0;
  cudaMemGetInfo(&left, &all);
  return fail(device, LETHE_OUT_OF_MEMORY, file, line,
              std::string("no device memory for ") + what + ": asked for " + bytes_text(asked) + ", free are " +
                  bytes_text(static_cast<int64_t>(left)) + " of " + bytes_text(static_cast<int64_t>(all)) +
                  ", this engine holds " + bytes_text(device->allocated));
}

}  // namespace lethe::cuda

extern "C" LETHE_API const lethe_backend *lethe_backend_init(void) {
  static const lethe_backend table = lethe::cuda::make_table();
  return &table;
}
