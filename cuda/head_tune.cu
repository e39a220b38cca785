// How many rows a chunk of the head has and which of cuBLASLt's algorithms its products take: set, or measured on the
// very pass that will run.
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
// Algorithms of each product: cuBLASLt lists them by what it expects of them.
constexpr int64_t kMostTried = 8;
constexpr int kRounds = 3;
// What a size or algorithm must win to be taken before the plan's own: less is noise.
constexpr float kShare = 0.99f;

HeadChoice &choice_of(Device *device, int32_t dtype, int64_t d, int64_t V) {
  return device->head_choices[{dtype, d, V}];
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

// Tries `values` one by one in *setting; what stays there is the first, or the fastest where that wins. *best: its
// time; 0: the first has none yet.
int take_fastest(Device *device, Clock *clock, const lethe_head_args *args, const std::vector<int64_t> &values,
                 int64_t *setting, float *best) {
  int64_t fastest = values.front();
  for (const int64_t value : values) {
    if (value == fastest && *best > 0) continue;
    *setting = value;
    float time = 0;
    LETHE_CUDA_TRY(least_time(device, clock, args, &time));
    if (value == values.front() || time < kShare * *best) {
      fastest = value;
      *best = time;
    }
  }
  *setting = fastest;
  return LETHE_OK;
}

// The chunk by the products' first algorithms, then each product's algorithm in such chunks.
int tune(Device *device, const lethe_head_args *args, HeadChoice *choice) {
  Clock clock;
  LETHE_CUDA_TRY(clock.make(device));
  LETHE_CUDA_TRY(check_workspace(device, *args, true));
  float best = 0;
  LETHE_CUDA_TRY(take_fastest(device, &clock, args, candidates(device, *args), &choice->rows, &best));
  for (int product = 0; product < kHeadProducts; ++product) {
    std::vector<int64_t> tiles = {0};
    while (static_cast<int64_t>(tiles.size()) < std::min(choice->choices[product], kMostTried)) {
      tiles.push_back(static_cast<int64_t>(tiles.size()));
    }
    LETHE_CUDA_TRY(take_fastest(device, &clock, args, tiles, &choice->tiles[product], &best));
  }
  return head_forward(device, args);
}

}  // namespace

int head_set_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t rows) {
  return run(device, __func__, [&] {
    choice_of(device, dtype, d, V).rows = rows;
    return static_cast<int>(LETHE_OK);
  });
}

int head_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t *rows) {
  return run(device, __func__, [&] {
    *rows = choice_of(device, dtype, d, V).rows;
    return static_cast<int>(LETHE_OK);
  });
}

int head_set_tiles(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t logits, int64_t gradient) {
  return run(device, __func__, [&] {
    HeadChoice &choice = choice_of(device, dtype, d, V);
    choice.tiles[kLogits] = logits;
    choice.tiles[kHiddenGradient] = gradient;
    return static_cast<int>(LETHE_OK);
  });
}

int head_tiles(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t *logits, int64_t *gradient) {
  return run(device, __func__, [&] {
    const HeadChoice &choice = choice_of(device, dtype, d, V);
    *logits = choice.tiles[kLogits];
    *gradient = choice.tiles[kHiddenGradient];
    return static_cast<int>(LETHE_OK);
  });
}

int head_tune(Device *device, const lethe_head_args *args, int64_t *chunk) {
  return run(device, __func__, [&] {
    *chunk = 0;
    if (args->n == 0) return static_cast<int>(LETHE_OK);
    HeadChoice &choice = choice_of(device, args->dtype, args->d, args->V);
    const HeadChoice before = choice;
    choice = {};
    const int status = tune(device, args, &choice);
    if (status != LETHE_OK) choice = before;
    *chunk = choice.rows;
    return status;
  });
}

}  // namespace lethe::cuda
