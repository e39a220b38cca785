// What kernels find wrong in the content of memory: kept on the device, answered at the next wait.
//
// A kernel that checks comes first and closes the gate; those that would read or write through the content look at the
// gate and do nothing behind a closed one. The first fault since the last wait is the one that is answered.
#pragma once

#include <cstdint>
#include <string>

#include "common.cuh"

namespace lethe::cuda {

// In host memory that the device writes to.
struct Fault {
  uint64_t op;    // const char *: the op that ran
  uint64_t text;  // FaultText: what to say
  uint64_t name;  // const char *: the operand
  int64_t at, value, bound;
};
// The message of a fault, and its status.
using FaultText = int (*)(const Fault &fault, std::string *message);

// What a kernel needs to close the gate.
struct Gate {
  int *closed;   // device memory: 0, or 1
  Fault *fault;  // as the device sees it
  Fault what;    // op, text and name filled in

  __device__ bool open() const { return *closed == 0; }
  // By one thread of the kernel.
  __device__ void close(int64_t at, int64_t value, int64_t bound) const {
    if (atomicCAS(closed, 0, 1) != 0) return;
    Fault f = what;
    f.at = at;
    f.value = value;
    f.bound = bound;
    *fault = f;
  }
};

struct FaultRecord {
  const char *op = "";  // that runs
  int *closed = nullptr;
  Fault *host = nullptr;
  Fault *device = nullptr;

  Gate gate(const char *name, FaultText text) const {
    Gate g = {};
    g.closed = closed;
    g.fault = device;
    g.what.op = reinterpret_cast<uint64_t>(op);
    g.what.text = reinterpret_cast<uint64_t>(text);
    g.what.name = reinterpret_cast<uint64_t>(name);
    return g;
  }
};

}  // namespace lethe::cuda
