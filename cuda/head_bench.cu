// head_bench check                      the case list on the device
// head_bench bench PREFIX COMMIT DATE   the case list, then timings into PREFIX.json and PREFIX.md
// Exit status: 0 all well, 1 a wrong result, 2 misuse or a CUDA error, 3 no CUDA device.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "head_check.h"
#include "head_rows.cuh"

namespace {

using lethe::cuda::HeadRows;

void require(cudaError_t status, const char *what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s (CUDA error %d)\n", what, cudaGetErrorString(status), static_cast<int>(status));
  std::exit(2);
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) {
    require(cudaMalloc(&data_, std::max<size_t>(count, 1) * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T> &content) : DeviceArray(content.size()) {
    require(cudaMemcpy(data_, content.data(), content.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray &) = delete;
  DeviceArray &operator=(const DeviceArray &) = delete;
  T *get() const { return data_; }

 private:
  T *data_ = nullptr;
};

// The arena goes to the device and back as a whole: canaries and gaps with it.
void device_rows(const lethe::test::HeadLaunch &l, unsigned threads) {
  const auto bytes = static_cast<size_t>(l.arena_bytes);
  DeviceArray<char> arena(bytes);
  require(cudaMemcpy(arena.get(), l.arena, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  const auto there = [&](auto *host) {
    using T = decltype(host);
    return host == nullptr ? nullptr
                           : reinterpret_cast<T>(arena.get() + (reinterpret_cast<const char *>(host) - l.arena));
  };
  const HeadRows a = {l.rows,
                      l.V,
                      l.ld,
                      there(l.z),
                      there(l.delta),
                      there(l.second),
                      there(l.delta_of),
                      there(l.second_of),
                      there(l.records),
                      there(l.row_params),
                      there(l.bias),
                      l.soft_cap,
                      there(l.means),
                      there(l.coefficient),
                      there(l.stats),
                      l.gradient};
  require(lethe::cuda::head_rows(a, threads, nullptr), "head_rows");
  require(cudaDeviceSynchronize(), "head_rows");
  require(cudaMemcpy(l.arena, arena.get(), bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

int check() {
  lethe::test::HeadChecker checker("head on the device", false);
  for (const unsigned threads : {32u, 96u, lethe::cuda::kHeadThreads}) {
    checker.run([threads](const lethe::test::HeadLaunch &l) { device_rows(l, threads); }, true);
  }
  return checker.report();
}

struct Kinds {
  const char *name;
  std::vector<int> cycle;
};

struct Result {
  std::string kinds;
  int64_t rows, V;
  double ms, gigabytes, copy;  // the kernel's median; its least traffic and a copy's, in GB/s
};

// Milliseconds of `body`, the median of `times` runs; `before` is not timed.
template <class Before, class Body>
double median_ms(int times, Before &&before, Body &&body) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin), "cudaEventCreate");
  require(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> ms(static_cast<size_t>(times));
  for (int i = -3; i < times; ++i) {
    before();
    require(cudaEventRecord(begin), "cudaEventRecord");
    body();
    require(cudaEventRecord(end), "cudaEventRecord");
    require(cudaEventSynchronize(end), "cudaEventSynchronize");
    float one = 0;
    require(cudaEventElapsedTime(&one, begin, end), "cudaEventElapsedTime");
    if (i >= 0) ms[static_cast<size_t>(i)] = one;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(ms.begin(), ms.end());
  return static_cast<double>(ms[ms.size() / 2]);
}

Result time_case(const Kinds &kinds, int64_t rows, int64_t V) {
  constexpr int kTimes = 25;
  constexpr size_t kFlush = size_t{256} << 20;  // beyond any L2
  lethe::test::Random random(7);
  std::vector<float> row(static_cast<size_t>(V)), delta_row(row);
  for (size_t v = 0; v < row.size(); ++v) {
    row[v] = static_cast<float>(3 * random.normal());
    delta_row[v] = static_cast<float>(0.1 * random.normal());
  }
  std::vector<int32_t> records, delta_of;
  int32_t references = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int kind = kinds.cycle[static_cast<size_t>(i) % kinds.cycle.size()];
    const bool reference = lethe::test::is_reference_kind(kind);
    records.insert(records.end(), {static_cast<int32_t>(i), static_cast<int32_t>(random.below(V)), kind, -1, -1});
    delta_of.push_back(reference ? references++ : -1);
  }
  const size_t row_bytes = row.size() * sizeof(float), count = static_cast<size_t>(rows) * row.size();
  DeviceArray<float> pristine(count), z(count), delta(static_cast<size_t>(references) * row.size());
  DeviceArray<float> stats(static_cast<size_t>(rows * LETHE_STATISTICS));
  DeviceArray<char> flush(kFlush);
  const DeviceArray<int32_t> device_records(records), device_delta_of(delta_of);
  const DeviceArray<float> means(std::vector<float>(static_cast<size_t>(rows), 0.0f));
  for (int64_t i = 0; i < rows; ++i) {
    require(cudaMemcpy(pristine.get() + i * V, row.data(), row_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    if (i < references) {
      require(cudaMemcpy(delta.get() + i * V, delta_row.data(), row_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
  }
  const HeadRows a = {rows,
                      V,
                      V,
                      z.get(),
                      delta.get(),
                      nullptr,
                      device_delta_of.get(),
                      nullptr,
                      device_records.get(),
                      nullptr,
                      nullptr,
                      0.0f,
                      means.get(),
                      nullptr,
                      stats.get(),
                      LETHE_BF16};
  const auto before = [&] {
    require(cudaMemcpyAsync(z.get(), pristine.get(), count * sizeof(float), cudaMemcpyDeviceToDevice), "cudaMemcpy");
    require(cudaMemsetAsync(flush.get(), 0, kFlush), "cudaMemset");
  };
  const double ms = median_ms(kTimes, before,
                              [&] { require(lethe::cuda::head_rows(a, lethe::cuda::kHeadThreads, nullptr), "head"); });
  const double copy_ms = median_ms(
      kTimes, [&] { require(cudaMemsetAsync(flush.get(), 0, kFlush), "cudaMemset"); },
      [&] {
        require(cudaMemcpyAsync(z.get(), pristine.get(), count * sizeof(float), cudaMemcpyDeviceToDevice),
                "cudaMemcpy");
      });
  // Logits and deltas are read once at least, the bf16 gradient written once.
  const double bytes = 6.0 * static_cast<double>(count) + 4.0 * references * static_cast<double>(V);
  return {kinds.name, rows, V, ms, bytes / ms * 1e-6, 8.0 * static_cast<double>(count) / copy_ms * 1e-6};
}

void write_results(const std::vector<Result> &results, const std::string &prefix, const char *commit, const char *date,
                   const char *device) {
  FILE *json = std::fopen((prefix + ".json").c_str(), "w");
  FILE *table = std::fopen((prefix + ".md").c_str(), "w");
  if (json == nullptr || table == nullptr) {
    std::fprintf(stderr, "cannot write %s.json and %s.md\n", prefix.c_str(), prefix.c_str());
    std::exit(2);
  }
  std::fprintf(json, "{\"what\":\"head row kernel, bf16 gradient in place\",\"device\":\"%s\",\"commit\":\"%s\",",
               device, commit);
  std::fprintf(json, "\"date\":\"%s\",\"command\":\"bench/gpu/run bench\",\"results\":[", date);
  std::fprintf(table, "# The head's row kernel on %s\n\nCommit %s, %s, `bench/gpu/run bench`. ", device, commit, date);
  std::fprintf(table, "Medians of 25 with a cold L2. GB/s counts the least traffic: logits and deltas read once,\n");
  std::fprintf(table, "the bf16 gradient written once; beside it a device copy of the logits in the same run.\n\n");
  std::fprintf(table, "| kinds | rows | V | ms | GB/s | copy GB/s | share |\n|---|---|---|---|---|---|---|\n");
  const char *separator = "";
  for (const Result &r : results) {
    std::fprintf(json, "%s\n{\"kinds\":\"%s\",\"rows\":%ld,\"V\":%ld,\"ms\":%.4f,\"GBps\":%.0f,\"copy_GBps\":%.0f}",
                 separator, r.kinds.c_str(), static_cast<long>(r.rows), static_cast<long>(r.V), r.ms, r.gigabytes,
                 r.copy);
    char line[200];
    std::snprintf(line, sizeof line, "| %s | %ld | %ld | %.3f | %.0f | %.0f | %.0f %% |\n", r.kinds.c_str(),
                  static_cast<long>(r.rows), static_cast<long>(r.V), r.ms, r.gigabytes, r.copy,
                  100 * r.gigabytes / r.copy);
    std::fputs(line, table);
    std::fputs(line, stdout);
    separator = ",";
  }
  std::fputs("\n]}\n", json);
  std::fclose(json);
  std::fclose(table);
}

int bench(const std::string &prefix, const char *commit, const char *date, const char *device) {
  const int status = check();
  if (status != 0) return status;
  const Kinds all[] = {{"NLL", {LETHE_ROW_NLL}},
                       {"ME", {LETHE_ROW_UNIFORM_KL}},
                       {"KL", {LETHE_ROW_REFERENCE_KL}},
                       {"mixed", {LETHE_ROW_NLL, LETHE_ROW_UNIFORM_KL, LETHE_ROW_REFERENCE_KL, LETHE_ROW_STATISTICS}}};
  std::vector<Result> results;
  for (const int64_t V : {32000, 128256, 152064}) {
    for (const int64_t rows : {512, 1024}) {
      for (const Kinds &kinds : all) results.push_back(time_case(kinds, rows, V));
    }
  }
  write_results(results, prefix, commit, date, device);
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (!(verb == "check" && argc == 2) && !(verb == "bench" && argc == 5)) {
    std::fprintf(stderr, "usage: head_bench check | head_bench bench PREFIX COMMIT DATE\n");
    return 2;
  }
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no CUDA device: %s (CUDA error %d)\n",
                 status == cudaSuccess ? "none is visible" : cudaGetErrorString(status), static_cast<int>(status));
    return 3;
  }
  cudaDeviceProp properties;
  require(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf("device: %s\n", properties.name);
  return verb == "check" ? check() : bench(argv[2], argv[3], argv[4], properties.name);
}
