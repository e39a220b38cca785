// kernel_bench describe PLUGIN_DIR BACKEND
//   what the backend says of itself, as one line of JSON
// kernel_bench run PLUGIN_DIR BACKEND --prefix PREFIX [--small] [--complete] [--only NAME] [--commit C] [--date D]
//              [--command TEXT]
//   checks every op against the CPU, times it, and writes PREFIX.json and PREFIX.md; --small: small shapes alone;
//   --complete: an op that the backend has not is a failure; --only: ops whose name begins so. The files are whole
//   after every case, and say of one that a kill cut off that it did not end; forms that are not the default come last.
// Exit status: 0 all well (a limit that is missed is shown, and is no failure), 1 a wrong result, 2 misuse, 3 no
// device, 4 no cuBLASLt.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "report.h"

namespace {

using namespace lethe::bench;

constexpr int kSamples = 20;
constexpr double kMostSeconds = 4, kSmallSeconds = 0.05;
constexpr double kLimitBytes = 256e6;  // below that a limit of bandwidth says nothing
// |x - y| / |y| of an output: two units of bf16 storage, or what fp32 sums of bf16 products may differ by.
constexpr double kBf16Bound = 0x1p-7, kF32Bound = 1e-3;

struct Options {
  std::string verb, plugins, backend, prefix, only, commit = "unknown", date = "unknown", command = "kernel_bench";
  bool small = false, complete = false;
};

int no_engine(const Failure &failure) {
  std::fprintf(stderr, "%s\n", failure.trace.c_str());
  if (failure.status != LETHE_NO_DEVICE) return 2;
  const bool blas = failure.trace.find("cuBLASLt was not found") != std::string::npos ||
                    failure.trace.find("cublasLtCreate") != std::string::npos;
  return blas ? 4 : 3;
}

double relative_error(const std::vector<float> &got, const std::vector<float> &want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += d * d;
    size += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

// Every output at the small shape against the CPU's; a NaN is wrong.
void check(const Case &c, Device &device, Device &twin, Measured *m) {
  const Work work = c.small(device), expected = c.small(twin);
  work.call();
  expected.call();
  device.wait();
  for (size_t i = 0; i < work.outputs.size(); ++i) {
    const Output &o = work.outputs[i], &e = expected.outputs[i];
    const double error = relative_error(device.read(o.ref, o.n, o.dtype), twin.read(e.ref, e.n, e.dtype));
    const double bound = o.dtype == LETHE_BF16 ? kBf16Bound : c.dtype == LETHE_BF16 ? kF32Bound : kF32Bound / 100;
    if (i == 0 || error / bound > m->error / m->bound || !(error <= bound)) {
      m->error = error;
      m->bound = bound;
    }
    if (!(error <= bound)) {
      m->status = "wrong";
      m->why = "output " + std::to_string(i) + " differs from the CPU's";
      break;
    }
  }
  device.free_all();
  twin.free_all();
}

class Bench {
 public:
  Bench(const Options &options, Device *device, Device *twin) : options_(options), device_(*device), twin_(*twin) {
    const Work copy = copy_work(device_, options.small ? 1 << 16 : int64_t{1} << 29);
    copy_rate_ = copy.bytes / (time(device_, copy).median * 1e-3);
    device_.free_all();
  }

  double copy_rate() const { return copy_rate_; }
  // Whether a case left the process without a device: none of those behind it can run.
  bool lost() const { return lost_; }

  Measured measure(const Case &c) {
    Measured m;
    m.name = c.name;
    m.shape = options_.small ? "small" : c.shape;
    m.dtype = c.dtype;
    try {
      Device &device = engine_of(c);
      check(c, device, twin_, &m);
      if (m.status == "timed") measure_full(c, device, &m);
    } catch (const Failure &failure) {
      const bool absent = failure.status == LETHE_UNSUPPORTED || failure.status == LETHE_OUT_OF_MEMORY;
      m.status = absent ? "absent" : "wrong";
      m.why = failure.trace.substr(0, failure.trace.find('\n'));
      lost_ = lost_ || failure.status == LETHE_DEVICE_LOST;
    }
    for (auto &form : forms_) form.second->free_all();
    device_.free_all();
    twin_.free_all();
    return m;
  }

 private:
  // An engine reads which forms its ops have when it opens.
  Device &engine_of(const Case &c) {
    if (c.variable == nullptr) return device_;
    std::unique_ptr<Device> &device = forms_[std::string(c.variable) + "=" + c.form];
    if (device != nullptr) return *device;
    const char *given = std::getenv(c.variable);
    const std::string before = given == nullptr ? "" : given;
    setenv(c.variable, c.form, 1);
    device = std::make_unique<Device>(options_.plugins.c_str(), options_.backend, 1);
    setenv(c.variable, before.c_str(), 1);
    return *device;
  }

  Device::Times time(Device &device, const Work &work) {
    return device.time(work.call, options_.small ? 3 : kSamples, options_.small ? kSmallSeconds : kMostSeconds);
  }

  void measure_full(const Case &c, Device &device, Measured *m) {
    const Work work = options_.small ? c.small(device) : c.full(device);
    m->bytes = work.bytes;
    m->flops = work.flops;
    m->times = time(device, work);
    m->launches = device.launches(work.call);
    const double seconds = m->times.median * 1e-3;
    if (c.ceiling == Ceiling::kCopy) {
      m->ceiling = "copy";
      m->ceiling_rate = copy_rate_;
      m->share = work.bytes / seconds / copy_rate_;
      m->limit = work.bytes >= kLimitBytes ? c.limit : 0;
    } else if (c.ceiling == Ceiling::kProducts) {
      std::vector<std::vector<int64_t>> products = work.products;
      for (std::vector<int64_t> &p : products) {
        for (const std::vector<int64_t> &g : m->launches.gemms) {
          if (work.products[0][0] == 0 && g[1] == p[1]) p[0] = std::max(p[0], g[0]);
        }
        if (p[0] == 0) p[0] = options_.small ? 13 : 512;
      }
      device.free_all();
      m->ceiling = "products";
      m->ceiling_rate = products_rate(products);
      m->share = work.flops / seconds / m->ceiling_rate;
      m->limit = options_.small ? 0 : c.limit;
    }
  }

  // FLOP/s of plain linears of these shapes, one after the other.
  double products_rate(const std::vector<std::vector<int64_t>> &products) {
    double flops = 0, seconds = 0;
    for (const std::vector<int64_t> &p : products) {
      double &known = rates_[p];
      const double of_this = 2.0 * static_cast<double>(p[0]) * static_cast<double>(p[1]) * static_cast<double>(p[2]);
      if (known == 0) {
        known = of_this / (time(device_, plain_linear(device_, LETHE_BF16, p[0], p[1], p[2])).median * 1e-3);
        device_.free_all();
      }
      flops += of_this;
      seconds += of_this / known;
    }
    return flops / seconds;
  }

  const Options &options_;
  Device &device_, &twin_;
  std::map<std::string, std::unique_ptr<Device>> forms_;
  double copy_rate_ = 0;
  bool lost_ = false;
  std::map<std::vector<int64_t>, double> rates_;
};

// How likely a case ends the run for those behind it: the default forms, then those that calls of theirs make up, then
// kernels of which one that waits for ever or faults takes the device with it.
int risk(const Case &c) {
  if (c.variable == nullptr) return c.name.find(" augmented") == std::string::npos ? 0 : 1;
  const std::string form = c.form;
  return form == "plain" || form == "two_looks" ? 1 : 2;
}

std::vector<Case> cases_of(const Options &options, bool forms) {
  std::vector<Case> all = matrix_cases(forms), wanted;
  for (Case &c : linear_cases(forms)) all.push_back(std::move(c));
  for (Case &c : memory_cases()) all.push_back(std::move(c));
  for (Case &c : all) {
    if (c.name.compare(0, options.only.size(), options.only) == 0 && !(options.small && c.full_only))
      wanted.push_back(std::move(c));
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const Case &a, const Case &b) { return risk(a) < risk(b); });
  return wanted;
}

void print(const Measured &m) {
  std::printf("%-8s %-28s %-44s %10.4f ms %5.0f %% of %s %s\n", m.status.c_str(), m.name.c_str(), m.shape.c_str(),
              m.times.median, 100 * m.share, m.ceiling.c_str(), m.why.c_str());
  std::fflush(stdout);
}

Measured not_run(const Options &options, const Case &c, const char *why) {
  Measured m;
  m.name = c.name;
  m.shape = options.small ? "small" : c.shape;
  m.dtype = c.dtype;
  m.status = "absent";
  m.why = why;
  return m;
}

int run(const Options &options) {
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  Device device(options.plugins.c_str(), options.backend, threads), twin(options.plugins.c_str(), "cpu", threads);
  Bench bench(options, &device, &twin);
  const Heading heading = {device.description(), options.commit,    options.date,
                           options.command,      bench.copy_rate(), options.small};
  std::vector<Measured> all;
  bool wrong = false, absent = false, written = true;
  for (const Case &c : cases_of(options, !device.is_cpu())) {
    const bool lost = bench.lost();
    all.push_back(not_run(options, c, lost ? "not run: the device was lost before" : "did not end"));
    written = write_report(options.prefix, heading, all) && written;
    if (!lost) all.back() = bench.measure(c);
    wrong = wrong || all.back().status == "wrong";
    absent = absent || all.back().status == "absent";
    print(all.back());
  }
  if (!written || !write_report(options.prefix, heading, all)) {
    std::fprintf(stderr, "cannot write %s.json and %s.md\n", options.prefix.c_str(), options.prefix.c_str());
    return 2;
  }
  if (all.empty()) {
    std::fprintf(stderr, "no op's name begins with '%s'\n", options.only.c_str());
    return 2;
  }
  return wrong || (absent && options.complete) ? 1 : 0;
}

bool parse(int argc, char **argv, Options *o) {
  if (argc < 4) return false;
  o->verb = argv[1];
  o->plugins = argv[2];
  o->backend = argv[3];
  for (int i = 4; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--small") {
      o->small = true;
    } else if (option == "--complete") {
      o->complete = true;
    } else {
      std::string *value = option == "--prefix"    ? &o->prefix
                           : option == "--only"    ? &o->only
                           : option == "--commit"  ? &o->commit
                           : option == "--date"    ? &o->date
                           : option == "--command" ? &o->command
                                                   : nullptr;
      if (value == nullptr || i + 1 == argc) return false;
      *value = argv[++i];
    }
  }
  return o->verb == "describe" ? argc == 4 : o->verb == "run" && !o->prefix.empty();
}

}  // namespace

int main(int argc, char **argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fputs(
        "usage: kernel_bench describe PLUGIN_DIR BACKEND | kernel_bench run PLUGIN_DIR BACKEND --prefix PREFIX ...\n",
        stderr);
    return 2;
  }
  try {
    if (options.verb == "run") return run(options);
    std::puts(Device(options.plugins.c_str(), options.backend, 1).description().c_str());
    return 0;
  } catch (const Failure &failure) {
    return no_engine(failure);
  }
}
