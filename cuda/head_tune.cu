// How many rows a chunk of the head has: set, or measured on the very pass that will run.
#include <algorithm>
#include <vector>

#include "head_plan.cuh"

namespace lethe::cuda {
namespace {

// Whole tiles of the products; little on the shim, so that tests meet several.
#if defined(LETHE_CUDA_SHIM)
constexpr int64_t kTried[] = {2, 4, 8, 16};
#else
constexpr int64_t kTried[] = {256, 512, 768, 1024, 1536, 2048, 3072, 4096};
#endif
constexpr int kRounds = 3;
// What a size must win to be taken before the plan's own: less is noise.
constexpr float kShare = 0.99f;

void set(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t rows) {
  if (rows == 0) {
    device->head_chunks.erase({dtype, d, V});
  } else {
    device->head_chunks[{dtype, d, V}] = rows;
  }
}

class Clock {
 public:
  ~Clock() {
    for (cudaEvent_t event : {begin_, end_}) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }
  int make(Device *device) {
    LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&begin_, 0));
    LETHE_CUDA_CALL(device, cudaEventCreateWithFlags(&end_, 0));
    return LETHE_OK;
  }
  // The device's milliseconds for a pass.
  int time(Device *device, const lethe_head_args *args, float *milliseconds) {
    LETHE_CUDA_CALL(device, cudaEventRecord(begin_, device->stream));
    LETHE_CUDA_TRY(head_forward(device, args));
    LETHE_CUDA_CALL(device, cudaEventRecord(end_, device->stream));
    LETHE_CUDA_CALL(device, cudaEventSynchronize(end_));
    LETHE_CUDA_CALL(device, cudaEventElapsedTime(milliseconds, begin_, end_));
    return LETHE_OK;
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// The least of a few times, after one pass that nobody times: it chooses the matrix kernels. It also finds out wrong
// rows, whose passes take no time.
int least_time(Device *device, Clock *clock, const lethe_head_args *args, float *milliseconds) {
  LETHE_CUDA_TRY(head_forward(device, args));
  LETHE_CUDA_TRY(synchronize(device));
  for (int round = 0; round < kRounds; ++round) {
    float time = 0;
    LETHE_CUDA_TRY(clock->time(device, args, &time));
    *milliseconds = round == 0 ? time : std::min(*milliseconds, time);
  }
  return LETHE_OK;
}

// 0 is the plan's own. Sizes that the workspace cuts down are that one again.
std::vector<int64_t> candidates(const Device *device, const lethe_head_args &args) {
  std::vector<int64_t> rows = {0};
  const bool fused = takes_fused(device, args) && args.references < args.n;
  const int64_t own = (fused ? next_fused_chunk(device, args, 0) : next_chunk(device, args, 0)).rows;
  const auto bytes = [&](int64_t tried) {
    return fused ? fused_layout(args.d, args.V, tried).bytes
                 : head_layout(args.dtype, args.d, args.V, {0, tried, 0, 0}).bytes;
  };
  for (const int64_t tried : kTried) {
    if (tried < args.n && tried != own && bytes(tried) <= args.workspace_bytes) rows.push_back(tried);
  }
  return rows;
}

int tune(Device *device, const lethe_head_args *args, int64_t *chunk) {
  Clock clock;
  LETHE_CUDA_TRY(clock.make(device));
  set(device, args->dtype, args->d, args->V, 0);
  LETHE_CUDA_TRY(check_workspace(device, *args, true));
  float best = 0;
  for (const int64_t rows : candidates(device, *args)) {
    set(device, args->dtype, args->d, args->V, rows);
    float time = 0;
    LETHE_CUDA_TRY(least_time(device, &clock, args, &time));
    if (rows == 0 || time < kShare * best) {
      *chunk = rows;
      best = time;
    }
  }
  set(device, args->dtype, args->d, args->V, *chunk);
  return head_forward(device, args);
}

}  // namespace

int head_set_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t rows) {
  return run(device, __func__, [&] {
    set(device, dtype, d, V, rows);
    return static_cast<int>(LETHE_OK);
  });
}

int head_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t *rows) {
  return run(device, __func__, [&] {
    const auto chosen = device->head_chunks.find({dtype, d, V});
    *rows = chosen == device->head_chunks.end() ? 0 : chosen->second;
    return static_cast<int>(LETHE_OK);
  });
}

int head_tune(Device *device, const lethe_head_args *args, int64_t *chunk) {
  return run(device, __func__, [&] {
    *chunk = 0;
    if (args->n == 0) return static_cast<int>(LETHE_OK);
    int64_t before = 0;
    LETHE_CUDA_TRY(head_chunk(device, args->dtype, args->d, args->V, &before));
    const int status = tune(device, args, chunk);
    if (status != LETHE_OK) set(device, args->dtype, args->d, args->V, before);
    return status;
  });
}

}  // namespace lethe::cuda
