// The case list through the CUDA row kernel, on the host shim: head_shim_test [small | separate].
#include <cstring>

#include "head_check.h"
#include "head_rows.cuh"

namespace {

int faults = 0;

void shim_rows(const lethe::test::HeadLaunch &l, unsigned threads) {
  lethe::cuda::HeadRows a = {l.rows,     l.V,           l.ld,      l.z,          l.delta, l.second,
                             l.delta_of, l.second_of,   l.records, l.row_params, l.bias,  l.soft_cap,
                             l.means,    l.coefficient, l.stats,   l.gradient};
  if (lethe::cuda::head_rows(a, threads, nullptr) == cudaSuccess) return;
  if (faults++ < 5) std::printf("%s\n", lethe_shim_message());
  lethe_shim_fail_launch(-1, cudaSuccess);  // the next case has a device again
}

}  // namespace

int main(int argc, char **argv) {
  // "separate", for a sanitizer: a third of the short list, every buffer an allocation of its own.
  const bool separate = argc > 1 && std::strcmp(argv[1], "separate") == 0;
  lethe::test::HeadChecker checker("head shim", separate);
  // Few threads make many tiles; many make warps with nothing to do. Every case meets both over its dtypes.
  checker.run(
      [](const lethe::test::HeadLaunch &l) {
        const bool few = (l.V + l.gradient) % 2 == 0;
        shim_rows(l, few ? 32 : l.V < 5000 ? 96 : 512);
      },
      argc == 1, separate ? 3 : 1);
  return checker.report();
}
