// The fused chain: from the hidden states at the head rows to the updated adapters of a one-block model, on a device
// and on the CPU. chain_test PLUGIN_DIR BACKEND compares them; with `list` behind it, prints each launch instead; with
// plain, fused_mma or fused_wgmma, has the head take that form, and fails where it did not.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "one_block.h"
#include "shim_knobs.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

// Odd sizes, so that every kernel meets a tail.
constexpr BlockShape kShape = {47, 40, 4, 2, 16, 56, 131, 4};
// And more tiles than one for the head in each direction: 134 rows of 128, 530 columns of 256, a depth of 72 of 64.
constexpr BlockShape kWide = {146, 72, 4, 2, 16, 56, 530, 4};

struct Mix {
  const char *name;
  std::vector<BlockSequence> batch;
  BlockShape shape = kShape;  // of as many tokens
};

std::vector<Mix> mixes() {
  return {{"ME", {{Role::kMaximumEntropy, 20}, {Role::kMaximumEntropy, 27}}},
          {"NPO", {{Role::kNpo, 9}, {Role::kNpo, 38}}},
          {"AP", {{Role::kAnswer, 30}, {Role::kRefusal, 17}}},
          {"ME + NPO", {{Role::kMaximumEntropy, 21}, {Role::kNpo, 26}}},
          {"ME + AP", {{Role::kMaximumEntropy, 11}, {Role::kAnswer, 20}, {Role::kRefusal, 16}}},
          {"ME + NPO + AP", {{Role::kNpo, 12}, {Role::kAnswer, 9}, {Role::kMaximumEntropy, 10}, {Role::kRefusal, 16}}}};
}

Mix wide() {
  return {"ME + NPO + AP, wide",
          {{Role::kNpo, 40}, {Role::kAnswer, 30}, {Role::kMaximumEntropy, 50}, {Role::kRefusal, 26}},
          kWide};
}

struct Result {
  double loss;
  Numbers gradients, before, after;
  std::string records;
};

std::string records_of(lethe_engine *engine) {
  int64_t needed = 0;
  if (lethe_launches(engine, nullptr, 0, &needed) != LETHE_OK) return "";
  std::string out(static_cast<size_t>(needed), '\0');
  expect(lethe_launches(engine, out.data(), needed, &needed) == LETHE_OK, "launches");
  out.resize(std::strlen(out.c_str()));
  return out;
}

// Two steps; the second one is written down.
Result run_block(lethe_engine *engine, bool device, int32_t dtype, const Mix &mix) {
  OneBlock block(engine, dtype, mix.shape, mix.batch);
  Result r = {};
  r.before = block.masters();
  block.forward();
  r.loss = block.chain();
  r.gradients = block.gradients();
  r.after = block.masters();
  block.forward();
  if (device) expect(lethe_record_launches(engine, 1) == LETHE_OK, "record");
  block.chain();
  if (device) {
    r.records = records_of(engine);
    expect(lethe_record_launches(engine, 0) == LETHE_OK, "record no more");
    const auto statistics = std::to_string(block.rows() * LETHE_STATISTICS * 4);
    expect(r.records.find(R"({"copy":"to_host","bytes":)" + statistics + "}") != std::string::npos,
           std::string(mix.name) + ": the statistics are read");
  }
  return r;
}

int count(const std::string &text, const std::string &part) {
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

int kernels(const std::string &records, const std::string &name) { return count(records, R"("kernel":")" + name); }

// The head's form by the launches that it made; `form` is the engine's, which bf16 rows take.
void expect_form(const std::string &records, const std::string &form, int32_t dtype, const std::string &name) {
  const bool warpgroup = dtype == LETHE_BF16 && form == "fused_wgmma",
             warp = dtype == LETHE_BF16 && form == "fused_mma";
  const std::string asked = name + ": the head's form is " + form + ", but not by its launches of ";
  for (const std::string part : {"labels", "logits", "gradient"}) {
    expect(kernels(records, "head_fused_wgmma_" + part) == (warpgroup ? 1 : 0) &&
               kernels(records, "head_fused_" + part) == (warp ? 1 : 0),
           asked + part);
  }
  const bool plain = !warpgroup && !warp;
  expect((kernels(records, "head_rows") == 1) == plain && kernels(records, "head_fused_rows") == (plain ? 0 : 1),
         name + ": the rows of form " + form);
}

// The statistics are all that the host reads or waits for, and nothing is allocated.
void expect_one_wait(const std::string &records, const std::string &name) {
  expect(count(records, "to_host") == 1, name + ": one read");
  expect(count(records, R"({"wait")") == 1, name + ": one wait");
  expect(count(records, R"({"alloc")") == 0, name + ": no allocation");
}

double distance(const Numbers &a, const Numbers &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}
double length(const Numbers &a) { return distance(a, Numbers(a.size(), 0.0)); }

void compare(lethe_engine *device, const std::string &form, lethe_engine *cpu, const Mix &mix) {
  const std::string name = mix.name;
  const Result exact = run_block(cpu, false, LETHE_F32, mix), ours = run_block(device, true, LETHE_F32, mix);
  const double gradient = distance(ours.gradients, exact.gradients) / length(exact.gradients);
  const double movement = distance(ours.after, exact.after) / distance(exact.after, exact.before);
  std::printf("%s fp32: loss %.9g against %.9g, gradient off by %.2g, movement by %.2g\n", mix.name, ours.loss,
              exact.loss, gradient, movement);
  expect(std::fabs(ours.loss - exact.loss) <= tolerance::chain::kGradient * std::fabs(exact.loss), name + " loss");
  expect(gradient <= tolerance::chain::kGradient, name + " gradient");
  expect(movement <= tolerance::chain::kMovement, name + " movement");
  expect(length(exact.gradients) > 0 && distance(exact.after, exact.before) > 0, name + " moves");
  expect_one_wait(ours.records, name);
  expect_form(ours.records, form, LETHE_F32, name + " fp32");
  const Result half = run_block(cpu, false, LETHE_BF16, mix), half_ours = run_block(device, true, LETHE_BF16, mix);
  const Result again = run_block(device, true, LETHE_BF16, mix);
  expect(half_ours.after == again.after && half_ours.gradients == again.gradients, name + ": the same bits again");
  expect_one_wait(half_ours.records, name + " bf16");
  expect_form(half_ours.records, form, LETHE_BF16, name + " bf16");
  const double off = distance(half_ours.gradients, half.gradients) / length(half.gradients);
  std::printf("%s bf16: loss %.9g against %.9g, gradient off by %.2g\n", mix.name, half_ours.loss, half.loss, off);
  expect(off <= tolerance::chain::kBf16Gradient, name + " bf16 gradient");
}

void list(lethe_engine *engine) {
  const Result r = run_block(engine, true, LETHE_BF16, mixes().back());
  std::fputs(r.records.c_str(), stdout);
}

// "head_form" of the engine's description; a CPU has none.
std::string head_form(lethe_engine *engine) {
  std::string text(4096, '\0');
  expect(lethe_engine_describe(engine, text.data(), 4096) == LETHE_OK, "describe");
  const std::string key = R"("head_form":")";
  const size_t at = text.find(key);
  if (at == std::string::npos) return "";
  const size_t from = at + key.size();
  return text.substr(from, text.find('"', from) - from);
}

// What the environment and the shim's device must be for an engine with that form of the head.
void ask_for(const std::string &form, const char *backend, const char *plugins) {
  const bool wgmma = form == "fused_wgmma";
  if (wgmma) Shim(backend, plugins).set_device(0, 9, 0);
  setenv("LETHE_HEAD_FORM", wgmma ? "fused" : form.c_str(), 1);
}

void compare_all(lethe_engine *device, lethe_engine *cpu, const std::string &asked) {
  const std::string form = head_form(device);
  const char *variable = std::getenv("LETHE_HEAD_FORM");
  const bool fused = variable != nullptr && std::strncmp(variable, "fused", 5) == 0;
  if (!asked.empty()) expect(form == asked, "the head's form is " + form + ", not " + asked + " as asked for");
  if (!form.empty()) expect((form != "plain") == fused, "the head's form is " + form + ", not that of LETHE_HEAD_FORM");
  for (const Mix &mix : mixes()) compare(device, form, cpu, mix);
  compare(device, form, cpu, wide());
  std::printf("the head's form, by its launches: %s\n", form.c_str());
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  if (argc < 3) {
    std::fprintf(stderr, "usage: chain_test PLUGIN_DIR BACKEND [list | plain | fused_mma | fused_wgmma]\n");
    return 2;
  }
  const std::string third = argc > 3 ? argv[3] : "", form = third == "list" ? "" : third;
  if (!form.empty()) ask_for(form, argv[2], argv[1]);
  lethe_engine *device = nullptr, *cpu = nullptr;
  const int status = lethe_engine_open(argv[2], argv[1], 1, &device);
  if (status == LETHE_NO_DEVICE) {
    std::printf("chain_test: skipped: %s\n", lethe_error_trace());
    return 77;
  }
  expect(status == LETHE_OK && lethe_engine_open("cpu", argv[1], 2, &cpu) == LETHE_OK, "engines");
  if (failed == 0 && third == "list") {
    list(device);
  } else if (failed == 0) {
    compare_all(device, cpu, form);
  }
  expect(lethe_engine_close(device) == LETHE_OK && lethe_engine_close(cpu) == LETHE_OK, "close");
  if (third != "list") std::printf("chain_test: %d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
