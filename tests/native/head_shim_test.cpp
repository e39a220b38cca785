// The case list through the CUDA row kernel, on the host shim: head_shim_test [small].
#include "head.cu"
#include "head_check.h"

namespace {

int failures_to_run = 0;

void shim_rows(const lethe::test::HeadLaunch &l, unsigned threads) {
  lethe::cuda::HeadRows a = {l.rows,    l.V,           l.ld,    l.z,           l.delta, l.delta_of,
                             l.records, l.temperature, l.means, l.coefficient, l.stats, l.gradient};
  try {
    lethe::cuda::head_rows(a, threads, 0);
  } catch (const lethe::cuda::shim::ShimError &e) {
    if (failures_to_run++ < 5) std::printf("%s\n", e.what());
  }
}

}  // namespace

int main(int argc, char **argv) {
  const bool small = argc > 1 && std::strcmp(argv[1], "small") == 0;
  // Under a sanitizer every buffer is an allocation of its own, whose ends the sanitizer watches.
  lethe::test::HeadChecker checker("head shim", small);
  // Few threads make many tiles; many make warps with nothing to do. Every case meets both over its dtypes.
  checker.run(
      [](const lethe::test::HeadLaunch &l) {
        const bool few = (l.V + l.gradient) % 2 == 0;
        shim_rows(l, few ? 32 : l.V < 5000 ? 96 : 512);
      },
      !small);
  return checker.report();
}
