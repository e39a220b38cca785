// Pinned host memory, and copies to and from it on a stream of their own, beside the kernels.
#include <algorithm>
#include <array>
#include <unordered_set>

#include "device.cuh"

namespace lethe::cuda {

// The second stream, and an event for each of its last copies. The copies are done in order, so the event of a later
// one stands for an earlier one whose own was used again.
class Aside {
 public:
  ~Aside() {
    if (stream_ != nullptr) cudaStreamSynchronize(stream_);
    for (void *memory : pinned_) cudaFreeHost(memory);
    for (cudaEvent_t event : done_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (asked_ != nullptr) cudaEventDestroy(asked_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  int make(Device *device) {
    LETHE_CUDA_CALL(device, cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&asked_, cudaEventDisableTiming));
    for (cudaEvent_t &event : done_) {
      LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
    return LETHE_OK;
  }

  int allocate(Device *device, int64_t bytes, void **address) {
    const cudaError_t error = cudaHostAlloc(address, static_cast<size_t>(bytes), 0);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return LETHE_CUDA_FAIL(device, LETHE_OUT_OF_MEMORY,
                             "the host has no " + std::to_string(bytes) + " bytes that can be pinned for the device");
    }
    LETHE_CUDA_CALL(device, error);
    std::fill_n(static_cast<char *>(*address), bytes, char{0});
    pinned_.insert(*address);
    return LETHE_OK;
  }

  bool free(void *address) {
    if (pinned_.erase(address) == 0) return false;
    cudaStreamSynchronize(stream_);
    cudaFreeHost(address);
    return true;
  }

  int copy(Device *device, void *dst, const void *src, int64_t bytes, int64_t *ticket) {
    LETHE_CUDA_CALL(device, cudaEventRecord(asked_, device->stream));
    LETHE_CUDA_CALL(device, cudaStreamWaitEvent(stream_, asked_, 0));
    LETHE_CUDA_CALL(device, cudaMemcpyAsync(dst, src, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_));
    LETHE_CUDA_CALL(device, cudaEventRecord(event(copies_ + 1), stream_));
    *ticket = ++copies_;
    return LETHE_OK;
  }

  int wait(Device *device, int64_t ticket) {
    LETHE_CUDA_CALL(device, cudaStreamWaitEvent(device->stream, event(ticket), 0));
    return LETHE_OK;
  }

  int64_t copies() const { return copies_; }

 private:
  cudaEvent_t event(int64_t ticket) const { return done_[static_cast<size_t>(ticket) % done_.size()]; }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t asked_ = nullptr;
  std::array<cudaEvent_t, 64> done_ = {};
  std::unordered_set<void *> pinned_;
  int64_t copies_ = 0;
};

void AsideDelete::operator()(Aside *aside) const { delete aside; }

namespace {

int aside_of(Device *device, Aside **aside) {
  if (device->aside == nullptr) {
    std::unique_ptr<Aside, AsideDelete> made(new Aside());
    LETHE_CUDA_TRY(made->make(device));
    device->aside = std::move(made);
  }
  *aside = device->aside.get();
  return LETHE_OK;
}

}  // namespace

int alloc_host(Device *device, int64_t bytes, void **address) {
  return run(device, __func__, [&] {
    Aside *aside = nullptr;
    LETHE_CUDA_TRY(aside_of(device, &aside));
    return aside->allocate(device, bytes, address);
  });
}

bool free_host(Device *device, void *address) { return device->aside != nullptr && device->aside->free(address); }

int copy_aside(Device *device, void *dst, const void *src, int64_t bytes, int64_t *ticket) {
  return run(device, __func__, [&] {
    Aside *aside = nullptr;
    LETHE_CUDA_TRY(aside_of(device, &aside));
    if (device->recording) record(device, R"({"copy":"aside","bytes":)" + std::to_string(bytes) + "}");
    return aside->copy(device, dst, src, bytes, ticket);
  });
}

int wait_aside(Device *device, int64_t ticket) {
  return run(device, __func__, [&] { return device->aside->wait(device, ticket); });
}

int join_aside(Device *device) {
  if (device->aside == nullptr || device->aside->copies() == 0) return LETHE_OK;
  return device->aside->wait(device, device->aside->copies());
}

}  // namespace lethe::cuda
