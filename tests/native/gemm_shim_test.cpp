// gemm.cu over the twin of cuBLASLt, against fp64: gemm_shim_test TWIN_DIR.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "device.cuh"
// It speaks of streams.
#include "cublaslt.h"
#include "gemm.h"
#include "op_check.h"
#include "tolerance.h"

extern "C" const lethe_backend *lethe_backend_init(void);

namespace lethe::test {
namespace {

using namespace lethe::cuda::blaslt;
using cuda::Device;
using cuda::Gemm;

std::string last_error;
int remember(int status, const char *, int, const char *message) {
  last_error = message;
  return status;
}
const lethe_host kHost = {remember};

void check(bool condition, const std::string &what) {
  ++(condition ? passed : failed);
  if (!condition) std::fprintf(stderr, "FAILED %s\n  last error: %s\n", what.c_str(), last_error.c_str());
}

// The twin, as gemm.cu opens it, and its knobs.
struct Twin {
  void *library;
  Functions f;
  int (*heuristics)();
  void (*exact)(int);

  explicit Twin(const std::string &folder) : library(dlopen((folder + "/libcublaslt_twin.so").c_str(), RTLD_NOW)) {
    check(library != nullptr, "the twin");
#define LETHE_LOAD(field, symbol, parameters) f.field = reinterpret_cast<decltype(f.field)>(dlsym(library, #symbol));
    LETHE_CUBLASLT_FUNCTIONS(LETHE_LOAD)
#undef LETHE_LOAD
    heuristics = reinterpret_cast<int (*)()>(dlsym(library, "lethe_twin_heuristics"));
    exact = reinterpret_cast<void (*)(int)>(dlsym(library, "lethe_twin_exact"));
  }
};

class OpenDevice {
 public:
  explicit OpenDevice(const char *folder) {
    check(lethe_backend_init()->open(&kHost, folder, 0, 1, &device_) == LETHE_OK, "open");
  }
  ~OpenDevice() { lethe_backend_init()->close(device_); }
  OpenDevice(const OpenDevice &) = delete;
  OpenDevice &operator=(const OpenDevice &) = delete;
  Device *get() const { return device_; }

 private:
  Device *device_ = nullptr;
};

// A matrix with rows `ld` apart, `offset` elements off a boundary of 256 bytes; what is between rows is NaN.
class Matrix {
 public:
  Matrix(Generator *g, int32_t dtype, int64_t rows, int64_t columns, int64_t pad, int64_t offset)
      : dtype_(dtype), rows_(rows), columns_(columns), ld_(columns + pad) {
    const int64_t width = element_bytes(dtype);
    memory_.resize(static_cast<size_t>((offset + (rows - 1) * ld_ + columns) * width + 256), '\xff');
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    data_ = memory_.data() + (256 - address % 256) % 256 + static_cast<size_t>(offset * width);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) set(r, c, decode(encode(g->uniform(), dtype), dtype));
    }
    start_ = memory_;
  }
  Matrix(const Matrix &) = delete;
  Matrix &operator=(const Matrix &) = delete;

  void *data() const { return data_; }
  int64_t ld() const { return ld_; }
  void set(int64_t r, int64_t c, double x) {
    const uint32_t stored = encode(x, dtype_);
    std::memcpy(place(r, c), &stored, static_cast<size_t>(element_bytes(dtype_)));
  }
  double at(int64_t r, int64_t c) const {
    uint32_t stored = 0;
    std::memcpy(&stored, place(r, c), static_cast<size_t>(element_bytes(dtype_)));
    return decode(stored, dtype_);
  }
  void fill(double x) {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < columns_; ++c) set(r, c, x);
    }
  }
  // What lies around the elements is as it was; without `but_elements`, they too.
  bool intact(bool but_elements) const {
    std::vector<char> now = memory_;
    for (int64_t r = 0; but_elements && r < rows_; ++r) {
      const std::ptrdiff_t at = static_cast<char *>(place(r, 0)) - memory_.data();
      std::copy_n(start_.begin() + at, columns_ * element_bytes(dtype_), now.begin() + at);
    }
    return now == start_;
  }

 private:
  char *place(int64_t r, int64_t c) const { return data_ + (r * ld_ + c) * element_bytes(dtype_); }

  int32_t dtype_;
  int64_t rows_, columns_, ld_;
  std::vector<char> memory_, start_;
  char *data_;
};

struct Types {
  int32_t in, out;
};
constexpr Types kTypes[] = {{LETHE_F32, LETHE_F32}, {LETHE_BF16, LETHE_BF16}, {LETHE_BF16, LETHE_F32}};

struct Case {
  Types types;
  int64_t M, N, K;
  bool a_transposed, b_transposed;
  int64_t pad, offset;
  float alpha, beta;
  bool apart;    // from != c
  int64_t bias;  // -1: none; else its offset
};
std::string name_of(const Case &c) {
  const auto yes = [](bool b) { return std::to_string(b ? 1 : 0); };
  return "gemm in=" + std::to_string(c.types.in) + " out=" + std::to_string(c.types.out) + " M=" + std::to_string(c.M) +
         " N=" + std::to_string(c.N) + " K=" + std::to_string(c.K) + " transposed=" + yes(c.a_transposed) +
         yes(c.b_transposed) + " pad=" + std::to_string(c.pad) + " offset=" + std::to_string(c.offset) +
         " alpha=" + std::to_string(c.alpha) + " beta=" + std::to_string(c.beta) + " apart=" + yes(c.apart) +
         " bias=" + std::to_string(c.bias);
}

// A product's operands, and what it should be.
struct Problem {
  Case c;
  Matrix a, b, out, from, bias;

  Problem(const Case &given, Generator *g)
      : c(given),
        a(g, c.types.in, c.a_transposed ? c.K : c.M, c.a_transposed ? c.M : c.K, c.pad, c.offset),
        b(g, c.types.in, c.b_transposed ? c.N : c.K, c.b_transposed ? c.K : c.N, 2 * c.pad, c.offset),
        out(g, c.types.out, c.M, c.N, c.pad, c.offset),
        from(g, c.types.out, c.M, c.N, c.pad, 2 * c.offset + 1),
        bias(g, c.types.out, 1, c.N, 0, std::max<int64_t>(c.bias, 0)) {}

  Gemm gemm() const {
    Gemm g = {c.types.in,
              c.types.out,
              c.M,
              c.N,
              c.K,
              {a.data(), a.ld(), c.a_transposed},
              {b.data(), b.ld(), c.b_transposed},
              out.data(),
              out.ld(),
              c.alpha,
              c.beta};
    if (c.apart) g.from = from.data();
    if (c.bias >= 0) g.bias = bias.data();
    return g;
  }
  double kept(int64_t m, int64_t n) const { return c.beta == 0.0f ? 0.0 : c.beta * (c.apart ? from : out).at(m, n); }
};

void matches(const OpenDevice &device, const Case &c, Generator *g) {
  Problem p(c, g);
  if (c.beta == 0.0f) p.out.fill(std::nan(""));
  Numbers want, bound;
  const double unit = c.types.out == LETHE_BF16 ? tolerance::kBf16Unit : tolerance::kUnit;
  for (int64_t m = 0; m < c.M; ++m) {
    for (int64_t n = 0; n < c.N; ++n) {
      const double bias = c.bias >= 0 ? p.bias.at(0, n) : 0.0;
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < c.K; ++k) {
        const double term =
            (c.a_transposed ? p.a.at(k, m) : p.a.at(m, k)) * (c.b_transposed ? p.b.at(n, k) : p.b.at(k, n)) * c.alpha;
        sum += term;
        magnitude += std::fabs(term);
      }
      want.push_back(sum + p.kept(m, n) + bias);
      // Two roundings of alpha and beta, two sums; and c's, once more where the bias came first.
      bound.push_back(tolerance::linear::sum(static_cast<double>(c.K + 4)) *
                          (magnitude + std::fabs(p.kept(m, n)) + std::fabs(bias)) +
                      unit * std::fabs(want.back()) + (c.bias >= 0 ? unit * std::fabs(p.kept(m, n) + bias) : 0.0));
    }
  }
  check(cuda::gemm(device.get(), p.gemm()) == LETHE_OK, name_of(c));
  bool close = true;
  for (int64_t m = 0; m < c.M; ++m) {
    for (int64_t n = 0; n < c.N; ++n) {
      const auto i = static_cast<size_t>(m * c.N + n);
      close = close && std::fabs(p.out.at(m, n) - want[i]) <= bound[i];
    }
  }
  check(close, name_of(c));
  check(p.out.intact(true) && p.a.intact(false) && p.b.intact(false) && p.from.intact(false) && p.bias.intact(false),
        name_of(c) + " writes nothing else");
}

void every_combination(const OpenDevice &device) {
  Generator g(1);
  const struct { int64_t M, N, K; } shapes[] = {{1, 1, 1}, {1, 8, 16}, {5, 1, 7}, {7, 13, 9}, {33, 24, 40}};
  for (const Types &types : kTypes) {
    for (const auto &s : shapes) {
      for (const int transposed : {0, 1, 2, 3}) {
        for (const int64_t pad : {0, 3, 8}) {
          for (const int64_t offset : {0, 1}) {
            for (const float beta : {0.0f, 1.0f, 0.75f}) {
              for (const bool apart : {false, true}) {
                for (const int64_t bias : {-1, 0, 3, 8}) {
                  matches(device,
                          {types, s.M, s.N, s.K, transposed % 2 != 0, transposed / 2 != 0, pad, offset,
                           bias == 3 ? 1.0f : -0.5f, beta, apart, bias},
                          &g);
                }
              }
            }
          }
        }
      }
    }
  }
}

// beta, from and what stands there must not choose another sum: 0 added is nothing added, to the bit.
void zeros_change_nothing(const OpenDevice &device) {
  Generator g(2);
  for (const Types &types : kTypes) {
    for (const int64_t bias : {-1, 0, 1}) {
      Problem p({types, 40, 24, 48, false, true, 0, 0, 1.0f, 0.0f, false, bias}, &g);
      Gemm product = p.gemm();
      check(cuda::gemm(device.get(), product) == LETHE_OK, "plain");
      Matrix plain(&g, types.out, 40, 24, 0, 0);
      std::memcpy(plain.data(), p.out.data(), static_cast<size_t>(40 * 24 * element_bytes(types.out)));
      p.from.fill(0.0);
      for (const bool apart : {false, true}) {
        p.out.fill(0.0);
        product.beta = 1.0f;
        product.from = apart ? p.from.data() : nullptr;
        check(cuda::gemm(device.get(), product) == LETHE_OK, "on zeros");
        check(std::memcmp(plain.data(), p.out.data(), static_cast<size_t>(40 * 24 * element_bytes(types.out))) == 0,
              "0 added is nothing added, out=" + std::to_string(types.out) + " bias=" + std::to_string(bias));
      }
    }
  }
}

// A batch is its products one by one, to the bit: operands that follow each other, one that all read, and columns of c
// in turn; `from` apart where it starts on less than c does.
void batches_are_their_products(const OpenDevice &device) {
  Generator g(6);
  constexpr int64_t kBatch = 3, M = 5, N = 8, K = 16;
  for (const Types &types : kTypes) {
    for (const int64_t offset : {0, 1}) {
      for (const bool shared : {false, true}) {
        const Matrix a(&g, types.in, kBatch * M, K, 0, 0), b(&g, types.in, kBatch * N, K, 8, 0);
        const Matrix from(&g, types.out, M, kBatch * N, 0, offset);
        Matrix together(&g, types.out, M, kBatch * N, 0, 0), apart(&g, types.out, M, kBatch * N, 0, 0);
        Gemm product = {types.in,
                        types.out,
                        M,
                        N,
                        K,
                        {a.data(), K, false, shared ? 0 : M * K},
                        {b.data(), b.ld(), true, N * b.ld()},
                        together.data(),
                        kBatch * N,
                        0.5f,
                        1.0f,
                        from.data()};
        product.batch = kBatch;
        product.c_step = N;
        check(cuda::gemm(device.get(), product) == LETHE_OK, "a batch");
        Gemm one = product;
        one.batch = 1;
        for (int64_t i = 0; i < kBatch; ++i) {
          const auto moved = [&](const void *data, int64_t elements, int32_t dtype) {
            return static_cast<const char *>(data) + i * elements * element_bytes(dtype);
          };
          one.a.data = moved(a.data(), product.a.step, types.in);
          one.b.data = moved(b.data(), product.b.step, types.in);
          one.c = const_cast<char *>(moved(apart.data(), N, types.out));
          one.from = moved(from.data(), N, types.out);
          check(cuda::gemm(device.get(), one) == LETHE_OK, "one of a batch");
        }
        check(std::memcmp(together.data(), apart.data(),
                          static_cast<size_t>(M * kBatch * N * element_bytes(types.out))) == 0,
              "a batch's products, offset=" + std::to_string(offset) + " shared=" + std::to_string(shared ? 1 : 0));
      }
    }
  }
}

void nothing_is_no_product(const OpenDevice &device) {
  Generator g(3);
  Problem p({kTypes[0], 3, 4, 5, false, false, 0, 0, 1.0f, 0.0f, false, -1}, &g);
  Gemm none = p.gemm();
  none.M = 0;
  check(cuda::gemm(device.get(), none) == LETHE_OK, "no rows");
  none.M = 3;
  none.N = 0;
  check(cuda::gemm(device.get(), none) == LETHE_OK, "no columns");
  none.N = 4;
  none.K = 0;
  check(cuda::gemm(device.get(), none) == LETHE_INTERNAL, "no sum");
  check(p.out.intact(false), "nothing is written");
  Gemm mixed = p.gemm();
  mixed.c_dtype = LETHE_BF16;
  check(cuda::gemm(device.get(), mixed) == LETHE_UNSUPPORTED, "fp32 to bf16");
}

// One question for each power of two from 128 on, and none for a product of a kind that was asked for.
void algorithms_are_chosen_by_bucket(const char *folder, const Twin &twin) {
  Generator g(4);
  for (const bool gradient : {false, true}) {
    const OpenDevice device(folder);
    const struct {
      int64_t count;
      int asked;
    } steps[] = {{1, 1},   {2, 0},   {127, 0}, {128, 0}, {129, 1}, {256, 0},
                 {200, 0}, {257, 1}, {511, 0}, {512, 0}, {3, 0}};
    for (const auto &step : steps) {
      const int before = twin.heuristics();
      const int64_t M = gradient ? 3 : step.count, K = gradient ? step.count : 5;
      matches(device, {kTypes[1], M, 4, K, gradient, false, 0, 0, 1.0f, 1.0f, false, -1}, &g);
      check(twin.heuristics() - before == step.asked,
            std::string(gradient ? "K=" : "M=") + std::to_string(step.count) + " asks for an algorithm");
    }
    // Others are kinds of their own: a bias, a leading dimension, an alignment.
    for (const Case &other : {Case{kTypes[1], 3, 8, 5, gradient, false, 0, 0, 1.0f, 1.0f, false, 0},
                              Case{kTypes[1], 3, 4, 5, gradient, false, 4, 0, 1.0f, 1.0f, false, -1},
                              Case{kTypes[1], 3, 4, 5, gradient, false, 0, 1, 1.0f, 1.0f, false, -1},
                              Case{kTypes[1], 3, 4, 5, gradient, true, 0, 0, 1.0f, 1.0f, false, -1}}) {
      for (const int asked : {1, 0}) {
        const int before = twin.heuristics();
        matches(device, other, &g);
        check(twin.heuristics() - before == asked, name_of(other) + " asks once");
      }
    }
  }
}

// An algorithm may refuse a shape that it was not chosen for: the shape gets its own, once.
void refused_shapes_get_their_own(const char *folder, const Twin &twin) {
  Generator g(5);
  const OpenDevice device(folder);
  twin.exact(1);
  for (const int asked : {2, 0}) {
    const int before = twin.heuristics();
    matches(device, {kTypes[1], 17, 8, 16, false, true, 0, 0, 1.0f, 1.0f, true, 0}, &g);
    check(twin.heuristics() - before == asked, "a shape of its own");
  }
  twin.exact(0);
}

// ---- the twin itself: what cuBLASLt refuses, it refuses ----

struct Call {
  const Functions &f;
  Handle handle = nullptr;
  MatmulDesc desc = nullptr;
  MatrixLayout a = nullptr, b = nullptr, d = nullptr;
  Preference preference = nullptr;
  HeuristicResult results[8] = {};
  int found = 0;
  alignas(256) char memory[5][4096] = {};

  Call(const Functions &functions, int in, int out) : f(functions) {
    f.create(&handle);
    f.desc_create(&desc, kCompute32F, kF32);
    f.layout_create(&a, in, 8, 16, 8);
    f.layout_create(&b, in, 16, 4, 16);
    f.layout_create(&d, out, 8, 4, 8);
    f.preference_create(&preference);
    const size_t workspace = 256;
    f.preference_set(preference, kWorkspaceBytes, &workspace, sizeof workspace);
    const uint32_t none = 0;
    f.preference_set(preference, kReductionMask, &none, sizeof none);
    align(16);
  }
  ~Call() {
    f.layout_destroy(a);
    f.layout_destroy(b);
    f.layout_destroy(d);
    f.preference_destroy(preference);
    f.desc_destroy(desc);
    f.destroy(handle);
  }
  Call(const Call &) = delete;
  Call &operator=(const Call &) = delete;

  void align(uint32_t bytes) {
    for (const int matrix : {kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD}) {
      f.preference_set(preference, matrix, &bytes, sizeof bytes);
    }
  }
  BlasStatus ask() { return f.heuristic(handle, desc, a, b, d, d, preference, 8, results, &found); }
  // Operands this many bytes off.
  BlasStatus run(int off_a, int off_b, int off_c, int off_d, MatrixLayout other_b = nullptr) {
    const float one = 1.0f;
    return f.matmul(handle, desc, &one, memory[0] + off_a, a, memory[1] + off_b, other_b == nullptr ? b : other_b, &one,
                    memory[2] + off_c, d, memory[3] + off_d, d, &results[found - 1].algo, memory[4], 256, nullptr);
  }
};

void twin_refuses(const Twin &twin) {
  MatrixLayout layout = nullptr;
  check(twin.f.layout_create(&layout, kBf16, 8, 4, 7) != kSuccess, "a leading dimension below the rows");
  check(twin.f.layout_create(&layout, kBf16, 0, 4, 8) != kSuccess, "no rows");
  Call mixed(twin.f, kF32, kBf16);
  check(mixed.ask() == kNotSupported && mixed.found == 0, "fp32 to bf16");
  Call call(twin.f, kBf16, kBf16);
  check(call.ask() == kSuccess && call.found > 1, "an algorithm");
  check(call.run(0, 0, 0, 0) == kSuccess && call.run(16, 32, 48, 64) == kSuccess, "as it was chosen");
  check(call.run(2, 0, 0, 0) != kSuccess && call.run(0, 8, 0, 0) != kSuccess && call.run(0, 0, 4, 0) != kSuccess &&
            call.run(0, 0, 0, 8) != kSuccess,
        "less alignment than it was chosen for");
  MatrixLayout loose = nullptr, more = nullptr;
  twin.f.layout_create(&loose, kBf16, 16, 4, 17);
  check(call.run(0, 0, 0, 0, loose) != kSuccess, "rows with less alignment than it was chosen for");
  twin.f.layout_create(&more, kBf16, 17, 4, 24);
  check(call.run(0, 0, 0, 0, more) != kSuccess, "operands that do not fit together");
  twin.f.layout_destroy(loose);
  twin.f.layout_destroy(more);
  // A bias: with the epilogue, an address, 16 bytes of alignment for it and for D.
  const int epilogue = kEpilogueBias, transposed = kTranspose;
  const void *bias = call.memory[4] + 1024;
  twin.f.desc_set(call.desc, kEpilogue, &epilogue, sizeof epilogue);
  check(call.run(0, 0, 0, 0) != kSuccess, "an algorithm for no bias");
  check(call.ask() != kSuccess, "no bias to add");
  twin.f.desc_set(call.desc, kBiasPointer, &bias, sizeof bias);
  check(call.ask() == kSuccess && call.run(0, 0, 0, 0) == kSuccess, "a bias");
  bias = call.memory[4] + 1026;
  twin.f.desc_set(call.desc, kBiasPointer, &bias, sizeof bias);
  check(call.run(0, 0, 0, 0) != kSuccess, "a bias off its alignment");
  call.align(8);
  check(call.ask() == kNotSupported, "a bias over rows of less alignment");
  twin.f.desc_set(call.desc, kTransposeA, &transposed, sizeof transposed);
  check(call.ask() == kInvalidValue, "a transpose that does not fit");
}

// A product that cuBLASLt refuses is a fault of Lethe, unless the context is beyond use: cuBLASLt says neither which.
void a_lost_device_is_told_from_a_refusal(const char *folder) {
  alignas(16) float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 4}, c[5] = {};
  const OpenDevice device(folder);
  // Half a number off.
  const Gemm g = {LETHE_F32, LETHE_F32, 2, 2, 2, {a, 2}, {b, 2}, reinterpret_cast<char *>(c) + 2, 2};
  check(cuda::gemm(device.get(), g) == LETHE_INTERNAL, "a refusal");
  cuda::shim::set_error(cudaErrorIllegalAddress, "");
  check(cuda::gemm(device.get(), g) == LETHE_DEVICE_LOST && !device.get()->lost.empty(), "a lost device");
  lethe_shim_fail_launch(-1, cudaSuccess);
}

// ---- opening ----

void a_missing_library_is_named(const char *folder) {
  Device *device = nullptr;
  setenv("LETHE_CUBLASLT", "/nonexistent/libcublasLt.so.13", 1);
  check(lethe_backend_init()->open(&kHost, folder, 0, 1, &device) == LETHE_NO_DEVICE &&
            last_error.find("/nonexistent/libcublasLt.so.13") != std::string::npos &&
            last_error.find("pip install nvidia-cublas") != std::string::npos &&
            last_error.find("LETHE_CUBLASLT=") != std::string::npos,
        "no such library");
  setenv("LETHE_CUBLASLT", "libm.so.6", 1);
  check(lethe_backend_init()->open(&kHost, folder, 0, 1, &device) == LETHE_NO_DEVICE &&
            last_error.find("libm.so.6 has no cublasLt") != std::string::npos,
        "a library that is another");
  unsetenv("LETHE_CUBLASLT");
  check(lethe_backend_init()->open(&kHost, "/nonexistent", 0, 1, &device) == LETHE_NO_DEVICE &&
            last_error.find("/nonexistent/libcublaslt_twin.so") != std::string::npos,
        "no twin");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  const char *folder = argc > 1 ? argv[1] : ".";
  const Twin twin(folder);
  if (twin.library == nullptr) return 1;
  twin_refuses(twin);
  a_lost_device_is_told_from_a_refusal(folder);
  a_missing_library_is_named(folder);
  algorithms_are_chosen_by_bucket(folder, twin);
  refused_shapes_get_their_own(folder, twin);
  {
    const OpenDevice device(folder);
    nothing_is_no_product(device);
    zeros_change_nothing(device);
    batches_are_their_products(device);
    every_combination(device);
  }
  std::printf("gemm shim: %d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
