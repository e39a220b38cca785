// The case list through the CUDA row kernels, on the host shim: head_shim_test [full | small | separate [BLOCKS [PART
// OF]]]. BLOCKS: of the cluster that keeps a row on chip, or the next that can; 0 (by default): two looks. PART OF: one
// of so many parts of the list.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "head_check.h"
#include "head_rows.cuh"

namespace {

using lethe::cuda::HeadRows;
using lethe::cuda::kWarp;
using lethe::cuda::shim::kMostSharedBytes;
using lethe::test::HeadLaunch;

int faults = 0;

// A cluster has about as many threads as a block alone.
void shim_rows(const HeadLaunch &l, unsigned threads, unsigned blocks) {
  const HeadRows a = {l.rows,    l.V,          l.ld,   l.z,        l.delta, l.second,      l.delta_of, l.second_of,
                      l.records, l.row_params, l.bias, l.soft_cap, l.means, l.coefficient, l.stats,    l.gradient};
  while (blocks > 0 && lethe::cuda::head_rows_onchip_shape(a, threads, blocks).shared > kMostSharedBytes) blocks *= 2;
  if (blocks > 0) threads = std::max(threads / blocks / kWarp, 1u) * kWarp;
  const cudaError_t status = blocks == 0 ? lethe::cuda::head_rows(a, threads, nullptr)
                                         : lethe::cuda::head_rows_onchip(a, threads, blocks, nullptr);
  if (status == cudaSuccess) return;
  if (faults++ < 5) std::printf("%s\n", lethe_shim_message());
  lethe_shim_fail_launch(-1, cudaSuccess);  // the next case has a device again
}

}  // namespace

int main(int argc, char **argv) {
  // "separate", for a sanitizer: a third of the short list, every buffer an allocation of its own.
  const std::string list = argc > 1 ? argv[1] : "full";
  const bool separate = list == "separate";
  const auto number = [&](int at, int otherwise) { return argc > at ? std::atoi(argv[at]) : otherwise; };
  const auto blocks = static_cast<unsigned>(number(2, 0));
  const auto part = static_cast<size_t>(number(3, 0)), parts = static_cast<size_t>(number(4, separate ? 3 : 1));
  lethe::test::HeadChecker checker("head shim", separate);
  // Few threads make many tiles; many make warps with nothing to do. Every case meets both over its dtypes.
  checker.run(
      [blocks](const HeadLaunch &l) {
        const bool few = (l.V + l.gradient) % 2 == 0;
        shim_rows(l, few ? 32 : l.V < 5000 ? 96 : 512, blocks);
      },
      list == "full", parts, part);
  return checker.report();
}
