// The CUDA backend's state, and what its ops share.
//
// Every op is a host function that launches kernels on the device's stream and returns; nothing waits but read and
// synchronize (memory.cu). What a kernel finds wrong in the content of memory goes into the fault record (fault.cuh).
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "fault.cuh"
#include "launch.cuh"
#include "lethe_backend.h"

namespace lethe::cuda {
class Blas;  // gemm.h
struct BlasDelete {
  void operator()(Blas *blas) const;
};
// A captured run of launches and copies. Its launches work in the scratch memory of their time.
struct Graph {
  cudaGraphExec_t exec;
  void *scratch;
  int64_t nodes;
};
struct OldScratch {
  void *address;
  int64_t bytes;
};
// How rows of logits are looked at (head_rows.cuh): twice; once, from shared memory, or not at all; once where they
// fit.
enum class RowsForm { kTwoLooks, kOnChip, kAuto };
// How the head's first pass goes: logits to memory, or fused (head_fused.cuh) by products of a warp or of a warpgroup.
// kFused is asked for, and becomes one of the other two.
enum class HeadForm { kPlain, kFused, kFusedMma, kFusedWgmma };
// How the head's passes over weights are run (head_tune.cu), by dtype, d and V.
using HeadKey = std::tuple<int32_t, int64_t, int64_t>;
enum HeadProduct { kLogits, kHiddenGradient, kHeadProducts };
struct HeadChoice {
  int64_t rows = 0;                     // the most rows of a chunk; 0: the plan's own
  int64_t tiles[kHeadProducts] = {};    // Gemm::tiles
  int64_t choices[kHeadProducts] = {};  // how many of them the products that have run could choose from
};
class Aside;  // aside.cu
struct AsideDelete {
  void operator()(Aside *aside) const;
};
class Staging;  // memory.cu
struct StagingDelete {
  void operator()(Staging *staging) const;
};
}  // namespace lethe::cuda

struct lethe_device {
  const lethe_host *host = nullptr;
  int ordinal = 0;
  cudaDeviceProp properties = {};
  cudaStream_t own = nullptr;
  cudaStream_t stream = nullptr;
  std::unique_ptr<lethe::cuda::Blas, lethe::cuda::BlasDelete> blas;
  std::unique_ptr<lethe::cuda::Staging, lethe::cuda::StagingDelete> staging;
  std::unique_ptr<lethe::cuda::Aside, lethe::cuda::AsideDelete> aside;
  // Memory an op needs while it runs, grown to the largest request in the stream's order; scratch() hands it out.
  void *scratch = nullptr;
  int64_t scratch_bytes = 0;
  int64_t allocated = 0;                        // bytes of buffers and scratch
  std::unordered_map<void *, int64_t> buffers;  // and how many of them each buffer has
  lethe::cuda::FaultRecord fault;
  int *tickets = nullptr;  // device memory, 0 between launches: blocks of one launch count themselves with it
  // Why the context is beyond use; "" as long as it is not.
  std::string lost;
  bool augments = false;  // LETHE_LORA_FORM=augmented: linear_spare asks for room beside and below weights
  lethe::cuda::RowsForm rows_form = lethe::cuda::RowsForm::kTwoLooks;  // LETHE_HEAD_ROWS
  // LETHE_HEAD_FORM: head passes that can take a fused form do, where it is one.
  lethe::cuda::HeadForm head_form = lethe::cuda::HeadForm::kPlain;
  int resident_pairs = 0;             // of its blocks by products of a warpgroup
  void *encode_tensor_map = nullptr;  // the driver's function, where require_tensor_maps has passed (tma.cuh)
  // Graphs by id; ids are not used again.
  std::unordered_map<uint64_t, lethe::cuda::Graph> graphs;
  uint64_t next_graph = 1;
  bool capturing = false;
  bool capture_failed = false;                       // an op failed since the capture's begin
  std::vector<lethe::cuda::OldScratch> old_scratch;  // that a graph still works in
  std::map<lethe::cuda::HeadKey, lethe::cuda::HeadChoice> head_choices;
  bool recording = false;
  std::vector<std::string> records;
};

namespace lethe::cuda {

using Device = lethe_device;

// Records why an op fails; returns `status`.
int fail(const Device *device, int status, const char *file, int line, const std::string &message);
// Turns what the runtime answered into a status: out of memory, or a lost device, which it then stays.
int fail_cuda(Device *device, cudaError_t error, const char *file, int line, const char *what);

#define LETHE_CUDA_FAIL(device, status, message) ::lethe::cuda::fail((device), (status), __FILE__, __LINE__, (message))
// Returns from the calling function unless the runtime answers cudaSuccess.
#define LETHE_CUDA_CALL(device, call)                                                                                  \
  do {                                                                                                                 \
    const cudaError_t lethe_error = (call);                                                                            \
    if (lethe_error != cudaSuccess) return ::lethe::cuda::fail_cuda((device), lethe_error, __FILE__, __LINE__, #call); \
  } while (0)
// Returns from the calling function unless a status is LETHE_OK.
#define LETHE_CUDA_TRY(call)                             \
  do {                                                   \
    const int lethe_status_ = (call);                    \
    if (lethe_status_ != LETHE_OK) return lethe_status_; \
  } while (0)

// Reads from the environment which of an op's forms are used; refuses what it does not know.
int read_forms(Device *device);
// Chooses by the device what was left open.
int choose_forms(Device *device);
// What it read, as members of a JSON object.
std::string forms_text(const Device *device);

// Refuses an op on a lost device, and makes the device current for the calling thread.
int enter(Device *device);

// Runs an op's body, which returns a status.
template <class Body>
int run(Device *device, const char *op, Body &&body) noexcept {
  try {
    LETHE_CUDA_TRY(enter(device));
    device->fault.op = op;
    const int status = body();
    device->capture_failed |= status != LETHE_OK;
    return status;
  } catch (const std::bad_alloc &) {
    device->capture_failed = true;
    return device->host->fail(LETHE_OUT_OF_MEMORY, op, 0, "out of host memory");
  } catch (const std::exception &e) {
    device->capture_failed = true;
    return device->host->fail(LETHE_INTERNAL, op, 0, e.what());
  }
}

// Writes a line of JSON down while the device records.
void record(Device *device, const std::string &line);
void record_launch(Device *device, const Shape &shape);

// Launches a kernel on the device's stream; a grid without blocks is no launch.
template <class... Parameters, class... Arguments>
int launch(Device *device, const Shape &shape, void (*kernel)(Parameters...), Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return LETHE_OK;
  if (device->recording) record_launch(device, shape);
  const cudaError_t error = launch_on(device->stream, shape, kernel, arguments...);
  return error == cudaSuccess ? static_cast<int>(LETHE_OK) : fail_cuda(device, error, __FILE__, __LINE__, shape.name);
}

// Offsets of what an op keeps in scratch memory, each on a boundary of 256 bytes.
class Pieces {
 public:
  template <class T>
  int64_t add(int64_t count) {
    const int64_t at = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return at;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};
// Scratch memory of the op that runs, until the next op asks for it. One call an op: a second one may move it.
int scratch(Device *device, int64_t bytes, char **memory);
// Frees scratch memory that a smaller request had, once no graph works in it.
void free_old_scratch(Device *device);
// Puts what comes next behind all copies aside.
int join_aside(Device *device);
// Whether the memory was alloc_host's: it is free now.
bool free_host(Device *device, void *address);
// Copies rows of `width` bytes, `pitch` bytes from row to row on either side; from null: zeros.
int fill_rows(Device *device, void *to, const void *from, int64_t pitch, int64_t width, int64_t rows);

inline int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }
inline int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline unsigned blocks_of(int64_t n, int64_t each) { return static_cast<unsigned>(ceil_div(n, each)); }

}  // namespace lethe::cuda

#include "ops.h"
