#include "head_gemm.h"

#include <unordered_map>

#include "oneapi/dnnl/dnnl.hpp"

namespace lethe::cpu {
namespace {

dnnl::memory::desc describe(int64_t rows, int64_t columns, const HeadMatrix &m) {
  const auto dtype = m.dtype == LETHE_BF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  return {{rows, columns}, dtype, dnnl::memory::dims{m.row_stride, m.column_stride}};
}

}  // namespace

void head_gemm(int64_t m, int64_t n, int64_t k, const HeadMatrix &a, const HeadMatrix &b, const HeadMatrix &c,
               bool accumulate) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::primitive_attr attributes;
  attributes.set_deterministic(true);
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::primitive_desc descriptor(engine, describe(m, k, a), describe(k, n, b), describe(m, n, c),
                                                attributes);
  const auto memory = [&](const dnnl::memory::desc &desc, void *data) { return dnnl::memory(desc, engine, data); };
  dnnl::stream stream(engine);
  dnnl::matmul(descriptor)
      .execute(stream, {{DNNL_ARG_SRC, memory(descriptor.src_desc(), a.data)},
                        {DNNL_ARG_WEIGHTS, memory(descriptor.weights_desc(), b.data)},
                        {DNNL_ARG_DST, memory(descriptor.dst_desc(), c.data)}});
  stream.wait();
}

}  // namespace lethe::cpu
