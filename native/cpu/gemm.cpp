#include "gemm.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "number.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "scratch.h"

namespace lethe::cpu {
namespace {

using dnnl::matmul;
using dnnl::memory;

// Enough for the shapes of a training step in four pieces of their own lengths. One takes half a millisecond to compile
// and 0.6 MB to keep, so more of them cost more than they save where every step has other lengths.
constexpr size_t kMaxKernels = 128;
// Elements of B that are widened to fp32 at a time where oneDNN has no bf16 kernel.
constexpr int64_t kPanelElements = 4 << 20;
// Rows of B that are multiplied in one go.
constexpr int64_t kPanelRows = 1024;

// The least part of C that is worth a thread of its own.
constexpr int64_t kMinColumns = 192;
constexpr int64_t kMinRows = 16;

struct Key {
  int64_t M, N, K, lda, ldb, ldc;
  int32_t dtype, c_dtype;
  bool a_transposed, b_transposed;
  float alpha, beta;
  bool operator==(const Key &k) const {
    return M == k.M && N == k.N && K == k.K && lda == k.lda && ldb == k.ldb && ldc == k.ldc && dtype == k.dtype &&
           c_dtype == k.c_dtype && a_transposed == k.a_transposed && b_transposed == k.b_transposed &&
           alpha == k.alpha && beta == k.beta;
  }
};

struct Kernel {
  Key key;
  uint64_t last_used;
  bool native;  // false: oneDNN has only its reference loops for this dtype on this processor
  matmul::primitive_desc desc;
  matmul primitive;
};

// Kernels are compiled for as many threads as OpenMP has then.
struct SingleThreaded {
  explicit SingleThreaded(int outside) : threads(outside) { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(threads); }
  SingleThreaded(const SingleThreaded &) = delete;
  SingleThreaded &operator=(const SingleThreaded &) = delete;
  int threads;
};

memory::data_type type_of(int32_t dtype) {
  return dtype == LETHE_BF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

int64_t size_of(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }

memory::dims strides(int64_t ld, bool transposed) { return transposed ? memory::dims{1, ld} : memory::dims{ld, 1}; }

const char *row(const void *data, int64_t index, int64_t ld, int32_t dtype) {
  return static_cast<const char *>(data) + index * ld * size_of(dtype);
}
char *row(void *data, int64_t index, int64_t ld, int32_t dtype) {
  return static_cast<char *>(data) + index * ld * size_of(dtype);
}

// rows[n,width] with stride ld to packed fp32.
void widen(const void *src, int64_t n, int64_t width, int64_t ld, float *dst) {
  const auto *from = static_cast<const bf16 *>(src);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < n; ++r) {
    const bf16 *in = from + r * ld;
    float *out = dst + r * width;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store(out + i, load(in + i));
    for (; i < width; ++i) out[i] = to_float(in[i]);
  }
}

void narrow(const float *src, int64_t n, int64_t width, void *dst, int64_t ld) {
  auto *to = static_cast<bf16 *>(dst);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < n; ++r) {
    const float *in = src + r * width;
    bf16 *out = to + r * ld;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store(out + i, load(in + i));
    for (; i < width; ++i) from_float(in[i], out + i);
  }
}

}  // namespace

class GemmCache {
 public:
  explicit GemmCache(int threads) : threads_(threads), workers_(static_cast<size_t>(threads)) {
    // The kernels that are kept are kept here: oneDNN would keep a thousand more, of half a megabyte each.
    dnnl::set_primitive_cache_capacity(0);
    for (Worker &worker : workers_) worker.stream = dnnl::stream(engine_);
  }

  void multiply(const Gemm &g) {
    if (g.M == 1) {
      single_row(g);
    } else if (!execute(g)) {
      multiply_widened(g);
    }
  }

 private:
  struct Worker {
    dnnl::stream stream;
    Scratch scratch;
  };

  // bf16 kernels with M left open are as fast as those compiled for one M, or faster, and a training step brings a new
  // M every time. The fp32 ones are slower, and the order they sum in depends on M.
  static bool open_m(const Gemm &g) { return g.dtype == LETHE_BF16 && !g.a.transposed; }

  const Kernel *find(const Gemm &g) {
    const Key key{open_m(g) ? DNNL_RUNTIME_DIM_VAL : g.M,
                  g.N,
                  g.K,
                  g.a.ld,
                  g.b.ld,
                  g.ldc,
                  g.dtype,
                  g.c_dtype,
                  g.a.transposed,
                  g.b.transposed,
                  g.alpha,
                  g.beta};
    ++clock_;
    for (const auto &kernel : kernels_) {
      if (kernel->key == key) {
        kernel->last_used = clock_;
        return kernel.get();
      }
    }
    auto made = std::make_unique<Kernel>(make(key));
    made->last_used = clock_;
    if (kernels_.size() < kMaxKernels) {
      kernels_.push_back(std::move(made));
      return kernels_.back().get();
    }
    auto oldest = std::min_element(kernels_.begin(), kernels_.end(),
                                   [](const auto &x, const auto &y) { return x->last_used < y->last_used; });
    *oldest = std::move(made);
    return oldest->get();
  }

  Kernel make(const Key &key) const {
    const memory::desc a({key.M, key.K}, type_of(key.dtype), strides(key.lda, key.a_transposed));
    const memory::desc b({key.K, key.N}, type_of(key.dtype), strides(key.ldb, key.b_transposed));
    const memory::desc c({key.M, key.N}, type_of(key.c_dtype), strides(key.ldc, false));
    dnnl::post_ops after;
    if (key.alpha != 1.0f) after.append_eltwise(dnnl::algorithm::eltwise_linear, key.alpha, 0.0f);
    if (key.beta != 0.0f) after.append_sum(key.beta);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_deterministic(true);
    attributes.set_post_ops(after);
    const SingleThreaded scope(threads_);
    Kernel kernel;
    kernel.key = key;
    kernel.desc = matmul::primitive_desc(engine_, a, b, c, attributes, /*allow_empty=*/true);
    kernel.native = kernel.desc && std::strncmp(kernel.desc.impl_info_str(), "ref", 3) != 0;
    if (kernel.native) {
      kernel.primitive = matmul(kernel.desc);
    } else if (key.dtype != LETHE_BF16) {
      throw std::runtime_error("oneDNN has no fp32 kernel for this processor");
    }
    return kernel;
  }

  // The fp32 kernels for a plain right side read B again for every few rows of A; a panel of K that stays in the cache
  // makes them up to 1.5 times as fast. The panels depend on K alone, so a row's sum keeps its order for every M.
  // False when oneDNN has no kernel for the dtype.
  bool execute(const Gemm &g) {
    const bool panels = g.dtype == LETHE_F32 && g.c_dtype == LETHE_F32 && !g.a.transposed && !g.b.transposed;
    const int count = panels ? static_cast<int>((g.K + kPanelRows - 1) / kPanelRows) : 1;
    if (count <= 1) return execute_panel(g);
    for (int i = 0; i < count; ++i) {
      const Range k = share_blocks(g.K, i, count);
      Gemm part = g;
      part.K = k.end - k.begin;
      part.a.data = row(g.a.data, k.begin, 1, g.dtype);
      part.b.data = row(g.b.data, k.begin, g.b.ld, g.dtype);
      if (i > 0) part.beta = 1.0f;
      if (!execute_panel(part)) return false;
    }
    return true;
  }

  // Left to itself, oneDNN shares out K too, where M and N are small: the sum's order then depends on M and on the
  // threads. So every thread gets a part of C, and multiplies for itself. How N is shared does not depend on M.
  bool execute_panel(const Gemm &g) {
    int n_parts = 1;
    for (int parts = 2; parts <= threads_; ++parts) {
      if (threads_ % parts == 0 && g.N / parts >= kMinColumns) n_parts = parts;
    }
    const int m_parts = static_cast<int>(std::clamp<int64_t>(g.M / kMinRows, 1, threads_ / n_parts));
    const int parts = n_parts * m_parts;
    std::vector<Gemm> part(static_cast<size_t>(parts), g);
    std::vector<const Kernel *> kernel(static_cast<size_t>(parts));
    for (int i = 0; i < parts; ++i) {
      const auto index = static_cast<size_t>(i);
      part[index] = slice(g, share(g.M, i % m_parts, m_parts), share_blocks(g.N, i / m_parts, n_parts));
      kernel[index] = find(part[index]);
      if (!kernel[index]->native) return false;
      workers_[index].scratch.bytes(static_cast<int64_t>(kernel[index]->desc.scratchpad_desc().get_size()));
    }
    std::exception_ptr failure;
#pragma omp parallel num_threads(parts)
    {
      omp_set_num_threads(1);  // this thread's setting, for this region: oneDNN asks for it
      const auto index = static_cast<size_t>(omp_get_thread_num());
      try {
        execute_part(*kernel[index], part[index], &workers_[index]);
      } catch (...) {
#pragma omp critical(lethe_gemm_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return true;
  }

  // Whole vectors to each.
  static Range share_blocks(int64_t n, int index, int count) {
    const Range blocks = share((n + kLanes - 1) / kLanes, index, count);
    return {blocks.begin * kLanes, std::min(n, blocks.end * kLanes)};
  }

  static Gemm slice(const Gemm &g, Range rows, Range columns) {
    Gemm part = g;
    part.M = rows.end - rows.begin;
    part.N = columns.end - columns.begin;
    part.a.data = row(g.a.data, rows.begin, g.a.transposed ? 1 : g.a.ld, g.dtype);
    part.b.data = row(g.b.data, columns.begin, g.b.transposed ? g.b.ld : 1, g.dtype);
    part.c = row(row(g.c, rows.begin, g.ldc, g.c_dtype), columns.begin, 1, g.c_dtype);
    return part;
  }

  void execute_part(const Kernel &kernel, const Gemm &g, Worker *worker) const {
    // oneDNN's memory takes a mutable address for inputs too; it does not write to them.
    const auto input = [&](const Operand &operand, int64_t rows, int64_t columns) {
      return memory({{rows, columns}, type_of(g.dtype), strides(operand.ld, operand.transposed)}, engine_,
                    const_cast<void *>(operand.data));
    };
    const memory::desc scratch = kernel.desc.scratchpad_desc();
    void *scratch_bytes = worker->scratch.bytes(static_cast<int64_t>(scratch.get_size()));
    kernel.primitive.execute(
        worker->stream, {{DNNL_ARG_SRC, input(g.a, g.M, g.K)},
                         {DNNL_ARG_WEIGHTS, input(g.b, g.K, g.N)},
                         {DNNL_ARG_DST, memory({{g.M, g.N}, type_of(g.c_dtype), strides(g.ldc, false)}, engine_, g.c)},
                         {DNNL_ARG_SCRATCHPAD, memory(scratch, engine_, scratch_bytes)}});
    worker->stream.wait();
  }

  // oneDNN multiplies a single row by other kernels, which sum in another order.
  void single_row(const Gemm &g) {
    const int64_t a_bytes = g.K * size_of(g.dtype);
    const int64_t c_bytes = g.N * size_of(g.c_dtype);
    char *a = pair_a_.of<char>(2 * a_bytes);
    char *c = pair_c_.of<char>(2 * c_bytes);
    for (int copy = 0; copy < 2; ++copy) {
      if (g.a.transposed) {
        for (int64_t k = 0; k < g.K; ++k) {
          std::memcpy(a + copy * a_bytes + k * size_of(g.dtype), row(g.a.data, k, g.a.ld, g.dtype),
                      static_cast<size_t>(size_of(g.dtype)));
        }
      } else {
        std::memcpy(a + copy * a_bytes, g.a.data, static_cast<size_t>(a_bytes));
      }
      if (g.beta != 0.0f) std::memcpy(c + copy * c_bytes, g.c, static_cast<size_t>(c_bytes));
    }
    Gemm two = g;
    two.M = 2;
    two.a = {a, g.K};
    two.c = c;
    two.ldc = g.N;
    multiply(two);
    std::memcpy(g.c, c, static_cast<size_t>(c_bytes));
  }

  // bf16 on a processor for which oneDNN has no bf16 kernel: fp32 copies of A and of one panel of B's columns at a
  // time.
  void multiply_widened(const Gemm &g) {
    const bool round = g.c_dtype == LETHE_BF16;
    Gemm wide = g;
    wide.dtype = LETHE_F32;
    wide.c_dtype = LETHE_F32;
    const int64_t a_rows = g.a.transposed ? g.K : g.M;
    const int64_t a_columns = g.a.transposed ? g.M : g.K;
    float *a = wide_a_.of<float>(a_rows * a_columns);
    widen(g.a.data, a_rows, a_columns, g.a.ld, a);
    wide.a = {a, a_columns, g.a.transposed};
    const int64_t most = std::max<int64_t>(kLanes, kPanelElements / g.K / kLanes * kLanes);
    for (int64_t first = 0; first < g.N; first += most) {
      const int64_t n = std::min(most, g.N - first);
      const int64_t b_rows = g.b.transposed ? n : g.K;
      const int64_t b_columns = g.b.transposed ? g.K : n;
      float *b = wide_b_.of<float>(b_rows * b_columns);
      widen(g.b.transposed ? row(g.b.data, first, g.b.ld, g.dtype) : row(g.b.data, first, 1, g.dtype), b_rows,
            b_columns, g.b.ld, b);
      wide.b = {b, b_columns, g.b.transposed};
      wide.N = n;
      wide.c = row(g.c, first, 1, g.c_dtype);
      if (round) {
        float *c = wide_c_.of<float>(g.M * n);
        if (g.beta != 0.0f) widen(wide.c, g.M, n, g.ldc, c);
        void *narrowed = wide.c;
        wide.c = c;
        wide.ldc = n;
        execute(wide);
        narrow(c, g.M, n, narrowed, g.ldc);
      } else {
        execute(wide);
      }
    }
  }

  int threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::vector<Worker> workers_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  uint64_t clock_ = 0;
  Scratch pair_a_, pair_c_, wide_a_, wide_b_, wide_c_;
};

void GemmCacheDelete::operator()(GemmCache *cache) const { delete cache; }

GemmCachePtr make_gemm_cache(int threads) { return GemmCachePtr(new GemmCache(threads)); }

void gemm(Device *device, const Gemm &g) {
  if (g.M == 0 || g.N == 0) return;
  device->gemm_cache->multiply(g);
}

}  // namespace lethe::cpu
