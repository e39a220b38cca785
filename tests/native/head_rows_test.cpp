// The case list through the CPU's row kernel, once per instruction set; and the twin's gradient against the complex
// step of its value.
#include "head_rows.h"

#include "head_check.h"

namespace {

using lethe::test::HeadLaunch;

void cpu_rows(const HeadLaunch &l) {
  for (int64_t i = 0; i < l.rows; ++i) {
    lethe::cpu::HeadRow row = {};
    row.z = l.z + i * l.ld;
    row.delta = l.delta_of[i] < 0 ? nullptr : l.delta + l.delta_of[i] * l.ld;
    row.second = l.second_of[i] < 0 ? nullptr : l.second + l.second_of[i] * l.ld;
    row.bias = l.bias;
    row.soft_cap = l.soft_cap;
    row.label_shift = l.row_params[i * LETHE_ROW_PARAMS + 1];
    row.mix = l.row_params[i * LETHE_ROW_PARAMS + 2];
    row.epsilon = l.row_params[i * LETHE_ROW_PARAMS + 3];
    row.mean = l.means == nullptr ? nullptr : l.means + i;
    row.inverse_temperature = 1.0f / l.row_params[i * LETHE_ROW_PARAMS];
    row.coefficient = l.coefficient == nullptr ? 1.0f : l.coefficient[i];
    row.label = l.records[i * LETHE_ROW_FIELDS + 1];
    row.kind = l.records[i * LETHE_ROW_FIELDS + 2];
    lethe::cpu::head_row(row, l.V, l.gradient, l.stats + i * LETHE_STATISTICS);
  }
}

// Complex step (Squire & Trapp 1998): the imaginary part of f(z + ih) / h, with no difference to cancel.
long twin_gradient_failures() {
  constexpr double kStep = 1e-30;
  long failures = 0, compared = 0;
  for (const lethe::test::HeadCase &c : lethe::test::head_cases(false)) {
    if (c.logits > lethe::test::Logits::kLarge || c.V > 300) continue;
    const lethe::test::HeadData data = lethe::test::make_head_data(c);
    for (int64_t row = 0; row < c.rows; ++row) {
      lethe::test::TwinRow given = lethe::test::twin_input(c, data, row);
      given.mean = nullptr;
      given.coefficient = 1;
      const lethe::test::HeadTwin twin = lethe::test::twin_row(given);
      std::vector<std::complex<double>> z(twin.z.begin(), twin.z.end()), reference(z);
      for (size_t v = 0; v < twin.delta.size(); ++v) reference[v] += twin.delta[v];
      // Both round numbers as large as the logits and the deltas.
      double largest = 1, scale = 1;
      for (const double g : twin.gradient) largest = std::max(largest, std::fabs(g));
      for (const double x : twin.z) scale = std::max(scale, std::fabs(x));
      for (const double x : twin.delta) scale = std::max(scale, std::fabs(x));
      for (size_t v = 0; v < z.size(); ++v) {
        // Through the cap, if there is one.
        const double u =
            static_cast<double>(given.z[v]) + (given.bias != nullptr ? static_cast<double>(given.bias[v]) : 0);
        const std::complex<double> stepped(u, kStep);
        z[v] = (c.soft_cap > 0 ? given.soft_cap * std::tanh(stepped / given.soft_cap) : stepped) / given.temperature;
        const double step =
            lethe::test::twin_value(given.kind, given.label, z, reference, given.epsilon).imag() / kStep;
        z[v] = z[v].real();
        ++compared;
        if (!(std::fabs(step - twin.gradient[v]) <= lethe::tolerance::head::kComplexStep * largest * scale)) {
          if (++failures <= 10) {
            std::printf("twin: %s row %ld kind %d column %zu: gradient %.17g, complex step %.17g\n", c.name.c_str(),
                        static_cast<long>(row), given.kind, v, twin.gradient[v], step);
          }
        }
      }
    }
  }
  std::printf("twin: %ld of %ld derivatives disagree with the complex step\n", failures, compared);
  return compared == 0 ? 1 : failures;
}

}  // namespace

int main() {
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f")) {
    std::printf("skipped: no AVX-512 here\n");
    return 77;
  }
#endif
  lethe::test::HeadChecker checker("head rows", false);
  checker.run(cpu_rows, true);
  const long twin = twin_gradient_failures();
  return checker.report() != 0 || twin != 0 ? 1 : 0;
}
