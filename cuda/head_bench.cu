// head_bench check                      the case list on the device, in two looks and on chip
// head_bench bench PREFIX COMMIT DATE   the case list, then timings of both forms into PREFIX.json and PREFIX.md
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

const cudaDeviceProp &device() {
  static const cudaDeviceProp properties = [] {
    cudaDeviceProp p;
    require(cudaGetDeviceProperties(&p, 0), "cudaGetDeviceProperties");
    return p;
  }();
  return properties;
}

// blocks: of the cluster that keeps a row on chip; 0: two looks.
void rows_in(const HeadRows &a, unsigned threads, unsigned blocks) {
  require(blocks == 0 ? lethe::cuda::head_rows(a, threads, nullptr)
                      : lethe::cuda::head_rows_onchip(a, threads, blocks, nullptr),
          blocks == 0 ? "head_rows" : "head_rows_onchip");
}
unsigned blocks_of(int64_t V, bool references) {
  return lethe::cuda::head_rows_cluster(V, references, static_cast<int64_t>(device().sharedMemPerBlockOptin),
                                        device().major);
}

// The arena goes to the device and back as a whole: canaries and gaps with it.
void device_rows(const lethe::test::HeadLaunch &l, unsigned threads, unsigned blocks) {
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
  // Where a row does not fit, the next cluster that can have it; where none can, two looks.
  for (; blocks > 0; blocks *= 2) {
    if (lethe::cuda::head_rows_onchip_shape(a, threads, blocks).shared + 2048 <= device().sharedMemPerBlockOptin) break;
    if (blocks == 8 || device().major < 9) blocks = 0;
  }
  rows_in(a, threads, blocks);
  require(cudaDeviceSynchronize(), "head_rows");
  require(cudaMemcpy(l.arena, arena.get(), bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

int check() {
  lethe::test::HeadChecker checker("head on the device", false);
  for (const unsigned threads : {32u, 96u, lethe::cuda::kHeadThreads}) {
    checker.run([threads](const lethe::test::HeadLaunch &l) { device_rows(l, threads, 0); }, true);
  }
  for (const unsigned blocks : {1u, 2u, 4u, 8u}) {
    if (blocks > 1 && device().major < 9) break;
    for (const unsigned threads : {32u, lethe::cuda::kHeadThreads}) {
      checker.run([=](const lethe::test::HeadLaunch &l) { device_rows(l, threads, blocks); }, true);
    }
  }
  return checker.report();
}

struct Kinds {
  const char *name;
  std::vector<int> cycle;
};

struct Result {
  std::string form, kinds;
  unsigned plain_blocks, reference_blocks;  // of a row's cluster, without a reference and with one; 0: two looks
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

// Rows as the head launches them: on chip those without a reference, which stand first, apart from the others.
void launch_form(const HeadRows &a, int64_t references, unsigned plain_blocks, unsigned reference_blocks) {
  const int64_t plain = a.rows - references;
  if (plain == 0 || references == 0 || plain_blocks + reference_blocks == 0) {
    rows_in(a, lethe::cuda::kHeadThreads, references > 0 ? reference_blocks : plain_blocks);
    return;
  }
  HeadRows first = a, last = a;
  first.rows = plain;
  first.delta = nullptr;
  first.delta_of = nullptr;
  last.rows = references;
  last.z += plain * a.ld;
  last.delta_of += plain;
  last.records += plain * LETHE_ROW_FIELDS;
  last.means += plain;
  last.stats += plain * LETHE_STATISTICS;
  rows_in(first, lethe::cuda::kHeadThreads, plain_blocks);
  rows_in(last, lethe::cuda::kHeadThreads, reference_blocks);
}

struct Table {
  std::vector<int32_t> records, delta_of;
  int32_t references = 0;
};
// Rows of these kinds in turn, those with a reference last, as in a chunk of the head.
Table make_table(const Kinds &kinds, int64_t rows, int64_t V, lethe::test::Random *random) {
  std::vector<int> of_rows;
  for (int64_t i = 0; i < rows; ++i) of_rows.push_back(kinds.cycle[static_cast<size_t>(i) % kinds.cycle.size()]);
  std::stable_partition(of_rows.begin(), of_rows.end(), [](int k) { return !lethe::test::is_reference_kind(k); });
  Table table;
  for (int32_t i = 0; i < static_cast<int32_t>(rows); ++i) {
    const int kind = of_rows[static_cast<size_t>(i)];
    table.records.insert(table.records.end(), {i, static_cast<int32_t>(random->below(V)), kind, -1, -1});
    table.delta_of.push_back(lethe::test::is_reference_kind(kind) ? table.references++ : -1);
  }
  return table;
}

Result time_case(bool on_chip, const Kinds &kinds, int64_t rows, int64_t V) {
  constexpr int kTimes = 25;
  constexpr size_t kFlush = size_t{256} << 20;  // beyond any L2
  lethe::test::Random random(7);
  std::vector<float> row(static_cast<size_t>(V)), delta_row(row);
  for (size_t v = 0; v < row.size(); ++v) {
    row[v] = static_cast<float>(3 * random.normal());
    delta_row[v] = static_cast<float>(0.1 * random.normal());
  }
  const Table table = make_table(kinds, rows, V, &random);
  const int32_t references = table.references;
  const size_t row_bytes = row.size() * sizeof(float), count = static_cast<size_t>(rows) * row.size();
  DeviceArray<float> pristine(count), z(count), delta(static_cast<size_t>(references) * row.size());
  DeviceArray<float> stats(static_cast<size_t>(rows * LETHE_STATISTICS));
  DeviceArray<char> flush(kFlush);
  const DeviceArray<int32_t> records(table.records), delta_of(table.delta_of);
  const DeviceArray<float> means(std::vector<float>(static_cast<size_t>(rows), 0.0f));
  for (int64_t i = 0; i < rows; ++i) {
    require(cudaMemcpy(pristine.get() + i * V, row.data(), row_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    if (i < references) {
      require(cudaMemcpy(delta.get() + i * V, delta_row.data(), row_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
  }
  const unsigned plain_blocks = on_chip ? blocks_of(V, false) : 0, reference_blocks = on_chip ? blocks_of(V, true) : 0;
  HeadRows a = {};
  a.rows = rows;
  a.V = a.ld = V;
  a.z = z.get();
  a.delta = references > 0 ? delta.get() : nullptr;
  a.delta_of = delta_of.get();
  a.records = records.get();
  a.means = means.get();
  a.stats = stats.get();
  a.gradient = LETHE_BF16;
  const auto before = [&] {
    require(cudaMemcpyAsync(z.get(), pristine.get(), count * sizeof(float), cudaMemcpyDeviceToDevice), "cudaMemcpy");
    require(cudaMemsetAsync(flush.get(), 0, kFlush), "cudaMemset");
  };
  const double ms = median_ms(kTimes, before, [&] { launch_form(a, references, plain_blocks, reference_blocks); });
  const double copy_ms = median_ms(
      kTimes, [&] { require(cudaMemsetAsync(flush.get(), 0, kFlush), "cudaMemset"); },
      [&] {
        require(cudaMemcpyAsync(z.get(), pristine.get(), count * sizeof(float), cudaMemcpyDeviceToDevice),
                "cudaMemcpy");
      });
  // Logits and deltas are read once at least, the bf16 gradient written once.
  const double bytes = 6.0 * static_cast<double>(count) + 4.0 * references * static_cast<double>(V);
  return {on_chip ? "on_chip" : "two_looks",
          kinds.name,
          plain_blocks,
          reference_blocks,
          rows,
          V,
          ms,
          bytes / ms * 1e-6,
          8.0 * static_cast<double>(count) / copy_ms * 1e-6};
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
  std::fprintf(
      table, "the bf16 gradient written once; beside it a device copy of the logits in the same run. Blocks: of the\n");
  std::fprintf(table, "cluster that keeps a row, without a reference and with one; 0: two looks.\n\n");
  std::fprintf(
      table,
      "| form | blocks | kinds | rows | V | ms | GB/s | copy GB/s | share |\n|---|---|---|---|---|---|---|---|---|\n");
  const char *separator = "";
  for (const Result &r : results) {
    std::fprintf(json, "%s\n{\"form\":\"%s\",\"blocks\":%u,\"reference_blocks\":%u,\"kinds\":\"%s\",", separator,
                 r.form.c_str(), r.plain_blocks, r.reference_blocks, r.kinds.c_str());
    std::fprintf(json, "\"rows\":%ld,\"V\":%ld,\"ms\":%.4f,\"GBps\":%.0f,\"copy_GBps\":%.0f}",
                 static_cast<long>(r.rows), static_cast<long>(r.V), r.ms, r.gigabytes, r.copy);
    char line[200];
    std::snprintf(line, sizeof line, "| head_rows %s | %u, %u | %s | %ld | %ld | %.3f | %.0f | %.0f | %.0f %% |\n",
                  r.form.c_str(), r.plain_blocks, r.reference_blocks, r.kinds.c_str(), static_cast<long>(r.rows),
                  static_cast<long>(r.V), r.ms, r.gigabytes, r.copy, 100 * r.gigabytes / r.copy);
    std::fputs(line, table);
    std::fputs(line, stdout);
    separator = ",";
  }
  std::fputs("\n]}\n", json);
  std::fclose(json);
  std::fclose(table);
}

int bench(const std::string &prefix, const char *commit, const char *date, const char *name) {
  const int status = check();
  if (status != 0) return status;
  const Kinds all[] = {{"NLL", {LETHE_ROW_NLL}},
                       {"ME", {LETHE_ROW_UNIFORM_KL}},
                       {"KL", {LETHE_ROW_REFERENCE_KL}},
                       {"mixed", {LETHE_ROW_NLL, LETHE_ROW_UNIFORM_KL, LETHE_ROW_REFERENCE_KL, LETHE_ROW_STATISTICS}}};
  std::vector<Result> results;
  for (const int64_t V : {32000, 50257, 128256, 152064, 256000}) {
    for (const int64_t rows : {512, 1024}) {
      for (const Kinds &kinds : all) {
        const bool references = kinds.cycle.size() == 1 && lethe::test::is_reference_kind(kinds.cycle[0]);
        results.push_back(time_case(false, kinds, rows, V));
        if (blocks_of(V, references) > 0) results.push_back(time_case(true, kinds, rows, V));
      }
    }
  }
  write_results(results, prefix, commit, date, name);
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
  std::printf("device: %s\n", device().name);
  return verb == "check" ? check() : bench(argv[2], argv[3], argv[4], device().name);
}
