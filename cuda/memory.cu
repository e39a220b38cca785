// Memory of the device, copies to and from it, and the waits. A buffer may be pinned memory of the host (aside.cu), so
// every copy leaves it to its addresses which way it goes: to name another direction is undefined.
#include <algorithm>
#include <cstring>

#include "device.cuh"
#include "number.cuh"

namespace lethe::cuda {

int out_of_memory(Device *device, int64_t asked, const char *what, const char *file, int line);

// Pinned host memory through which everything passes: a copy from it does not wait, and one to it is as fast as the
// bus. Two halves take turns, each with an event that says when the device has read it.
class Staging {
 public:
  static constexpr int64_t kHalf = int64_t{4} << 20;

  ~Staging() {
    cudaFreeHost(memory_);
    for (cudaEvent_t event : read_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }

  int make(Device *device) {
    void *memory = nullptr;
    LETHE_CUDA_CALL(device, cudaHostAlloc(&memory, static_cast<size_t>(2 * kHalf), 0));
    memory_ = static_cast<char *>(memory);
    for (cudaEvent_t &event : read_) {
      LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
    return LETHE_OK;
  }

  // Room for up to kHalf bytes that the device is done with.
  int room(Device *device, int64_t bytes, char **to) {
    if (used_ + bytes > kHalf) {
      LETHE_CUDA_CALL(device, cudaEventRecord(read_[half_], device->stream));
      full_[half_] = true;
      half_ = 1 - half_;
      used_ = 0;
      if (full_[half_]) {
        record(device, R"({"wait":"staging"})");
        LETHE_CUDA_CALL(device, cudaEventSynchronize(read_[half_]));
      }
    }
    *to = memory_ + half_ * kHalf + used_;
    used_ += (bytes + 63) / 64 * 64;
    return LETHE_OK;
  }

 private:
  char *memory_ = nullptr;
  cudaEvent_t read_[2] = {};
  bool full_[2] = {};
  int half_ = 0;
  int64_t used_ = 0;
};

void StagingDelete::operator()(Staging *staging) const { delete staging; }

namespace {

int staging_of(Device *device, Staging **staging) {
  if (device->staging == nullptr) {
    std::unique_ptr<Staging, StagingDelete> made(new Staging());
    LETHE_CUDA_TRY(made->make(device));
    device->staging = std::move(made);
  }
  *staging = device->staging.get();
  return LETHE_OK;
}

void record_copy(Device *device, const char *where, int64_t bytes) {
  if (!device->recording) return;
  record(device, std::string(R"({"copy":")") + where + R"(","bytes":)" + std::to_string(bytes) + "}");
}

int fault_text(const Fault &fault, std::string *message) {
  return reinterpret_cast<FaultText>(fault.text)(fault, message);
}

// Answers a fault that a kernel found, and opens the gate again.
int answer_fault(Device *device) {
  const Fault fault = *device->fault.host;
  if (fault.text == 0) return LETHE_OK;
  *device->fault.host = Fault{};
  LETHE_CUDA_CALL(device, cudaMemsetAsync(device->fault.closed, 0, sizeof(int), device->stream));
  std::string message;
  const int status = fault_text(fault, &message);
  return fail(device, status, reinterpret_cast<const char *>(fault.op), 0, message);
}

int wait(Device *device, const char *why) {
  if (device->recording) record(device, std::string(R"({"wait":")") + why + "\"}");
  LETHE_CUDA_CALL(device, cudaStreamSynchronize(device->stream));
  return answer_fault(device);
}

// What was freed in the stream's order is the pool's until the stream has come so far and somebody waits for it: an
// allocation that finds no memory waits, and tries again.
template <class Allocate>
cudaError_t once_more(Device *device, Allocate &&allocate) {
  const cudaError_t error = allocate();
  if (error != cudaErrorMemoryAllocation) return error;
  const cudaError_t waited = cudaStreamSynchronize(device->stream);
  return waited == cudaSuccess ? allocate() : waited;
}

template <class From, class To>
__global__ void convert_kernel(int64_t n, const From *src, To *dst) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) from_float(to_float(src[i]), dst + i);
}

template <class From, class To>
int convert_all(Device *device, int64_t n, const void *src, void *dst) {
  constexpr unsigned kThreads = 256;
  const Shape shape = {"convert", {blocks_of(n, kThreads)}, kThreads, 0, n * int64_t{sizeof(From) + sizeof(To)}};
  return launch(device, shape, convert_kernel<From, To>, n, static_cast<const From *>(src), static_cast<To *>(dst));
}

}  // namespace

int scratch(Device *device, int64_t bytes, char **memory) {
  if (bytes > device->scratch_bytes) {
    if (device->capturing) {
      return LETHE_CUDA_FAIL(device, LETHE_INVALID_ARGUMENT,
                             std::string(device->fault.op) + " needs " + std::to_string(bytes) +
                                 " bytes of scratch memory, the engine has " + std::to_string(device->scratch_bytes) +
                                 ", and a capture cannot allocate: ask for the same calls once before it");
    }
    if (device->scratch != nullptr) {
      device->old_scratch.push_back({device->scratch, device->scratch_bytes});
      device->scratch = nullptr;
      device->scratch_bytes = 0;
      free_old_scratch(device);
    }
    if (device->recording) record(device, R"({"alloc":)" + std::to_string(bytes) + "}");
    const cudaError_t error = once_more(
        device, [&] { return cudaMallocAsync(&device->scratch, static_cast<size_t>(bytes), device->stream); });
    if (error == cudaErrorMemoryAllocation) {
      device->scratch = nullptr;
      return out_of_memory(device, bytes, device->fault.op, __FILE__, __LINE__);
    }
    LETHE_CUDA_CALL(device, error);
    device->scratch_bytes = bytes;
    device->allocated += bytes;
  }
  *memory = static_cast<char *>(device->scratch);
  return LETHE_OK;
}

int reserve_scratch(Device *device, int64_t bytes) {
  return run(device, __func__, [&] {
    char *memory = nullptr;
    return scratch(device, bytes, &memory);
  });
}

void free_old_scratch(Device *device) {
  auto &old = device->old_scratch;
  const auto in_use = [device](const OldScratch &memory) {
    return std::any_of(device->graphs.begin(), device->graphs.end(),
                       [&](const auto &graph) { return graph.second.scratch == memory.address; });
  };
  for (size_t i = old.size(); i-- > 0;) {
    if (in_use(old[i])) continue;
    cudaFreeAsync(old[i].address, device->stream);
    device->allocated -= old[i].bytes;
    old.erase(old.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

int fill_rows(Device *device, void *to, const void *from, int64_t pitch, int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return LETHE_OK;
  record_copy(device, from == nullptr ? "zero" : "on_device", width * rows);
  const auto step = static_cast<size_t>(pitch), bytes = static_cast<size_t>(width), count = static_cast<size_t>(rows);
  // Rows without gaps are one piece: that has no longest pitch, which is below 2^31.
  cudaError_t error = cudaSuccess;
  if (from == nullptr) {
    error = width == pitch ? cudaMemsetAsync(to, 0, bytes * count, device->stream)
                           : cudaMemset2DAsync(to, step, 0, bytes, count, device->stream);
  } else {
    error = width == pitch ? cudaMemcpyAsync(to, from, bytes * count, cudaMemcpyDefault, device->stream)
                           : cudaMemcpy2DAsync(to, step, from, step, bytes, count, cudaMemcpyDefault, device->stream);
  }
  LETHE_CUDA_CALL(device, error);
  return LETHE_OK;
}

int alloc(Device *device, int64_t bytes, void **address) {
  return run(device, __func__, [&] {
    if (device->recording) record(device, R"({"alloc":)" + std::to_string(bytes) + "}");
    const cudaError_t error = once_more(device, [&] { return cudaMalloc(address, static_cast<size_t>(bytes)); });
    if (error == cudaErrorMemoryAllocation) return out_of_memory(device, bytes, "a buffer", __FILE__, __LINE__);
    LETHE_CUDA_CALL(device, error);
    device->buffers[*address] = bytes;
    device->allocated += bytes;
    LETHE_CUDA_CALL(device, cudaMemsetAsync(*address, 0, static_cast<size_t>(bytes), device->stream));
    return static_cast<int>(LETHE_OK);
  });
}

void free(Device *device, void *address) {
  cudaSetDevice(device->ordinal);
  // cudaFree waits for the whole device; what the stream still has to do with the memory is done then.
  cudaStreamSynchronize(device->stream);
  if (free_host(device, address)) return;
  cudaFree(address);
  const auto buffer = device->buffers.find(address);
  if (buffer == device->buffers.end()) return;
  device->allocated -= buffer->second;
  device->buffers.erase(buffer);
}

int write(Device *device, void *dst, const void *src, int64_t bytes) {
  return run(device, __func__, [&] {
    Staging *staging = nullptr;
    LETHE_CUDA_TRY(staging_of(device, &staging));
    record_copy(device, "to_device", bytes);
    for (int64_t done = 0; done < bytes;) {
      const int64_t piece = std::min(bytes - done, Staging::kHalf);
      char *room = nullptr;
      LETHE_CUDA_TRY(staging->room(device, piece, &room));
      std::memcpy(room, static_cast<const char *>(src) + done, static_cast<size_t>(piece));
      LETHE_CUDA_CALL(device, cudaMemcpyAsync(static_cast<char *>(dst) + done, room, static_cast<size_t>(piece),
                                              cudaMemcpyDefault, device->stream));
      done += piece;
    }
    return static_cast<int>(LETHE_OK);
  });
}

int read(Device *device, const void *src, void *dst, int64_t bytes) {
  return run(device, __func__, [&] {
    Staging *staging = nullptr;
    LETHE_CUDA_TRY(staging_of(device, &staging));
    record_copy(device, "to_host", bytes);
    int status = LETHE_OK;
    for (int64_t done = 0; done < bytes && status == LETHE_OK;) {
      const int64_t piece = std::min(bytes - done, Staging::kHalf);
      char *room = nullptr;
      LETHE_CUDA_TRY(staging->room(device, piece, &room));
      LETHE_CUDA_CALL(device, cudaMemcpyAsync(room, static_cast<const char *>(src) + done, static_cast<size_t>(piece),
                                              cudaMemcpyDefault, device->stream));
      status = wait(device, "read");
      std::memcpy(static_cast<char *>(dst) + done, room, static_cast<size_t>(piece));
      done += piece;
    }
    return status;
  });
}

int copy(Device *device, void *dst, const void *src, int64_t bytes) {
  return run(device, __func__, [&] {
    record_copy(device, "on_device", bytes);
    LETHE_CUDA_CALL(device, cudaMemcpyAsync(dst, src, static_cast<size_t>(bytes), cudaMemcpyDefault, device->stream));
    return static_cast<int>(LETHE_OK);
  });
}

int zero(Device *device, void *dst, int64_t bytes) {
  return run(device, __func__, [&] {
    record_copy(device, "zero", bytes);
    LETHE_CUDA_CALL(device, cudaMemsetAsync(dst, 0, static_cast<size_t>(bytes), device->stream));
    return static_cast<int>(LETHE_OK);
  });
}

int synchronize(Device *device) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(join_aside(device));
    return wait(device, "synchronize");
  });
}

int convert(Device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst) {
  return run(device, __func__, [&] {
    const bool from_bf16 = src_dtype == LETHE_BF16, to_bf16 = dst_dtype == LETHE_BF16;
    if (from_bf16) {
      return to_bf16 ? convert_all<bf16, bf16>(device, n, src, dst) : convert_all<bf16, float>(device, n, src, dst);
    }
    return to_bf16 ? convert_all<float, bf16>(device, n, src, dst) : convert_all<float, float>(device, n, src, dst);
  });
}

}  // namespace lethe::cuda
