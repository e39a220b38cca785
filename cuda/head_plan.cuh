// How the head's passes are planned: rows checked and put in order on the device, the order cut into chunks on the
// host.
//
// The host knows how many rows have a reference and how many of those mix, but not which: the device puts the plain
// rows first, then those with a reference, then those that also mix, each in their own order. So a chunk, a run of that
// order, is known on the host with all its sizes.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

struct HeadRecord {
  int32_t source, label, kind, reference, second;
};
__device__ inline HeadRecord head_record(const int32_t *rows, int64_t row) {
  const int32_t *r = rows + row * LETHE_ROW_FIELDS;
  return {r[0], r[1], r[2], r[3], r[4]};
}

// What may be wrong with a row; head_fault says it. `at` of a fault is row * kHeadProblems + problem.
enum HeadProblem : int32_t {
  kHeadSource,  // the bad index and its bound are the fault's value and bound, here and with the other indices
  kHeadLabel,
  kHeadReference,
  kHeadSecond,
  kHeadKind,
  kHeadNoLabel,
  kHeadTrained,
  kHeadNoReference,
  kHeadMixRange,
  kHeadShiftLabel,
  kHeadNoSecond,
  kHeadTemperature,
  kHeadNoneToMove,
  kHeadEpsilonNeeded,
  kHeadEpsilonAlien,
  kHeadForm,    // value is the kind
  kHeadCounts,  // value and bound are {references, seconds} of the call and of the rows, in 32 bits each
  kHeadProblems,
  kHeadSound = kHeadProblems
};
int head_fault(const Fault &fault, std::string *message);

// Checks every record and its parameters; the first row at fault closes the gate. A forward pass (order not null) may
// have references, as many as the call says, and gets its order[n]. `fused`: rows without a reference take the fused
// form, and kinds that it does not have are at fault.
int plan_head(Device *device, const lethe_head_args &args, int32_t *order, bool fused);

// Rows of the order. Each needs its logits, the last `deltas` of them also their reference's difference from them, and
// the last `seconds` also their second reference's from the first's.
struct HeadChunk {
  int64_t begin, rows, deltas, seconds;
  int64_t logit_rows() const { return rows + deltas + seconds; }
};

// How a chunk lies in the workspace: logits of rows, deltas and seconds, their hidden rows, and the result of the
// second product. Offsets from the workspace's first boundary of kHeadAlignment bytes.
constexpr int64_t kHeadAlignment = 256;
struct HeadLayout {
  int64_t hidden, product, bytes;
};
HeadLayout head_layout(int32_t dtype, int64_t d, int64_t V, const HeadChunk &chunk);
// Elements from one row of logits to the next: rows start on 16 bytes.
inline int64_t logit_stride(int64_t V) { return ceil_div(V, 4) * 4; }

// The fused form (head_fused.cuh), which the device was opened for (LETHE_HEAD_FORM) and a forward pass can have:
// storage is bf16, rows of d start on 16 bytes, there is no soft cap, the mean row is given, and a row fits the
// workspace.
bool takes_fused(const Device *device, const lethe_head_args &args);
// How its chunk lies in the workspace: E, hidden rows, parts, powers, ends.
struct FusedLayout {
  int64_t hidden, parts, powers, ends, bytes;
};
FusedLayout fused_layout(int64_t d, int64_t V, int64_t rows);
// The chunk that starts at `begin`, in front of the rows with a reference: as next_chunk, by this form's layout.
HeadChunk next_fused_chunk(const Device *device, const lethe_head_args &args, int64_t begin);

// The chunk that starts at `begin`: all rows left, or as many as fit the workspace, in whole tiles that fill the
// device; where a chunk's rows were set (head_tune.cu), at most those. At least one row where check_workspace passed.
HeadChunk next_chunk(const Device *device, const lethe_head_args &args, int64_t begin);
// Room for the logits of two rows, and of two deltas where references are allowed.
int check_workspace(const Device *device, const lethe_head_args &args, bool allow_reference);

}  // namespace lethe::cuda
