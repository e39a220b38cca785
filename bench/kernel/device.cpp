#include "device.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace lethe::bench {

void require(int status) {
  if (status != LETHE_OK) throw Failure{status, lethe_error_trace()};
}

int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }

namespace {

constexpr int64_t kMostHostNumbers = int64_t{1} << 20;
constexpr double kOverheadShare = 0.01;

uint64_t mixed(uint64_t x) {  // SplitMix64 (Steele, Lea & Flood 2014)
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
double unit(uint64_t seed, uint64_t i) { return (static_cast<double>(mixed(mixed(seed) + i) >> 11) + 0.5) * 0x1p-53; }

uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace

Device::Device(const char *plugins, const std::string &backend, int threads) : backend_(backend) {
  require(lethe_engine_open(backend.c_str(), plugins, threads, &engine_));
  char text[1024];
  require(lethe_engine_describe(engine_, text, sizeof text));
  description_ = text;
}

Device::~Device() {
  free_all();
  lethe_engine_close(engine_);
}

lethe_ref Device::bytes(int64_t count) {
  lethe_ref buffer = 0;
  require(lethe_buffer_alloc(engine_, std::max<int64_t>(count, 1), &buffer));
  buffers_.push_back(buffer);
  return buffer;
}

lethe_ref Device::normal(int32_t dtype, int64_t n, float deviation, uint64_t seed) {
  const lethe_ref ref = bytes(n * element_bytes(dtype));
  if (n > kMostHostNumbers) {
    require(lethe_random_normal(engine_, dtype, n, seed, 0, deviation, ref));
    return ref;
  }
  std::vector<float> values(static_cast<size_t>(n));
  std::vector<uint16_t> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double radius = std::sqrt(-2 * std::log(unit(seed, 2 * i)));
    values[i] = static_cast<float>(deviation * radius * std::cos(6.283185307179586 * unit(seed, 2 * i + 1)));
    halves[i] = to_bf16(values[i]);
  }
  const void *source = dtype == LETHE_BF16 ? static_cast<const void *>(halves.data()) : values.data();
  require(lethe_write(engine_, ref, source, n * element_bytes(dtype)));
  return ref;
}

lethe_ref Device::constant(int64_t n, float value) {
  const lethe_ref ref = bytes(n * 4);
  const std::vector<float> values(static_cast<size_t>(n), value);
  require(lethe_write(engine_, ref, values.data(), n * 4));
  return ref;
}

lethe_ref Device::ints(const std::vector<int32_t> &values) {
  const auto size = static_cast<int64_t>(values.size()) * 4;
  const lethe_ref ref = bytes(size);
  require(lethe_write(engine_, ref, values.data(), size));
  return ref;
}

std::vector<float> Device::read(lethe_ref ref, int64_t n, int32_t dtype) {
  std::vector<float> values(static_cast<size_t>(n));
  if (dtype != LETHE_BF16) {
    require(lethe_read(engine_, ref, values.data(), n * 4));
    return values;
  }
  std::vector<uint16_t> halves(values.size());
  require(lethe_read(engine_, ref, halves.data(), n * 2));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t bits = static_cast<uint32_t>(halves[i]) << 16;
    std::memcpy(&values[i], &bits, 4);
  }
  return values;
}

void Device::free_all() {
  for (const lethe_ref buffer : buffers_) lethe_buffer_free(engine_, buffer);
  buffers_.clear();
  flush_ = 0;
}

void Device::wait() { require(lethe_synchronize(engine_)); }

double Device::seconds(const std::function<void()> &call, int calls) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call();
  wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Device::Times Device::time(const std::function<void()> &call, int samples, double most_seconds) {
  if (flush_ == 0) {
    // The largest L2 there is has 126 MB; the host's caches are not flushed in a test's small buffer.
    flush_bytes_ = is_cpu() || most_seconds < 1 ? int64_t{1} << 20 : int64_t{512} << 20;
    flush_ = bytes(flush_bytes_);
    const auto nothing = [&] { require(lethe_zero(engine_, flush_, 4)); };
    seconds(nothing, 1);
    overhead_ = 1;
    for (int i = 0; i < 10; ++i) overhead_ = std::min(overhead_, seconds(nothing, 1));
  }
  seconds(call, 1);  // what the first call sets up
  const double once = std::max(seconds(call, 1), 1e-7);
  const int calls = static_cast<int>(std::clamp(overhead_ / kOverheadShare / once, 1.0, 10000.0));
  std::vector<double> ms;
  double spent = 0;
  while (static_cast<int>(ms.size()) < samples && (ms.size() < 3 || spent < most_seconds)) {
    require(lethe_zero(engine_, flush_, flush_bytes_));
    wait();
    const double taken = seconds(call, calls);
    spent += taken;
    ms.push_back(taken / calls * 1e3);
  }
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms.front(), ms.back(), static_cast<int>(ms.size()), calls};
}

Device::Launches Device::launches(const std::function<void()> &call) {
  Launches found;
  if (is_cpu()) return found;
  wait();
  require(lethe_record_launches(engine_, 1));
  call();
  int64_t needed = 0;
  require(lethe_launches(engine_, nullptr, 0, &needed));
  std::string text(static_cast<size_t>(needed), '\0');
  require(lethe_launches(engine_, text.data(), needed, &needed));
  require(lethe_record_launches(engine_, 0));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t bytes_at = line.find("\"bytes\":");
    if (bytes_at != std::string::npos) found.bytes += std::atoll(line.c_str() + bytes_at + 8);
    if (line.find("\"kernel\":") != std::string::npos) ++found.kernels;
    if (line.find("\"wait\":") != std::string::npos) ++found.waits;
    const size_t gemm_at = line.find("\"gemm\":[");
    if (gemm_at == std::string::npos) continue;
    long long m = 0, n = 0, k = 0;
    if (std::sscanf(line.c_str() + gemm_at + 8, "%lld,%lld,%lld", &m, &n, &k) == 3) found.gemms.push_back({m, n, k});
  }
  return found;
}

}  // namespace lethe::bench
