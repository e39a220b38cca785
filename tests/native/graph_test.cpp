// Graphs: calls that are captured once and launched again give the bits of the calls themselves, and what cannot be
// captured is refused. graph_test PLUGIN_DIR BACKEND.
#include <cstring>

#include "one_block.h"

namespace lethe::test {
namespace {

// Odd sizes, so that every kernel meets a tail.
constexpr BlockShape kShape = {29, 24, 4, 2, 8, 40, 67, 4};

#if defined(LETHE_SMALL)
constexpr uint64_t kSteps = 1;
#else
constexpr uint64_t kSteps = 3;
#endif

std::vector<BlockSequence> batch() { return {{Role::kNpo, 12}, {Role::kMaximumEntropy, 17}}; }

bool says(const std::string &part) { return std::strstr(lethe_error_trace(), part.c_str()) != nullptr; }

std::string records_of(lethe_engine *engine) {
  int64_t needed = 0;
  expect(lethe_launches(engine, nullptr, 0, &needed) == LETHE_OK, "how much was written down");
  std::string out(static_cast<size_t>(needed), '\0');
  expect(lethe_launches(engine, out.data(), needed, &needed) == LETHE_OK, "what was written down");
  return out.c_str();
}

int count(const std::string &text, const std::string &part) {
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

template <class Calls>
lethe_graph captured(lethe_engine *engine, Calls &&calls) {
  lethe_graph graph = 0;
  expect(lethe_graph_begin(engine) == LETHE_OK, "begin");
  calls();
  expect(lethe_graph_end(engine, &graph) == LETHE_OK && graph != 0, "end");
  return graph;
}

// Steps on inputs that change, with weights that change: eager, and as two graphs of one capture.
void steps(lethe_engine *engine, int32_t dtype) {
  const std::string name = dtype == LETHE_BF16 ? "bf16" : "fp32";
  OneBlock eager(engine, dtype, kShape, batch()), replayed(engine, dtype, kShape, batch());
  for (OneBlock *block : {&eager, &replayed}) {
    block->forward();
    block->chain();
  }
  const Numbers before = replayed.masters();
  const lethe_graph there = captured(engine, [&] {
    replayed.forward();
    replayed.head();
  });
  const lethe_graph back = captured(engine, [&] { replayed.update(); });
  expect(replayed.masters() == before, name + ": capturing changes nothing");
  for (uint64_t step = 1; step <= kSteps; ++step) {
    eager.input(step);
    eager.forward();
    const double loss = eager.chain();
    replayed.input(step);
    expect(lethe_graph_launch(engine, there) == LETHE_OK, name + ": there");
    const double again = replayed.answer();
    expect(lethe_graph_launch(engine, back) == LETHE_OK, name + ": and back");
    expect(std::isfinite(loss) && loss == again, name + ": the loss's bits");
    expect(eager.gradients() == replayed.gradients(), name + ": the gradients' bits");
    expect(eager.masters() == replayed.masters(), name + ": the adapters' bits");
  }
  expect(eager.masters() != before, name + ": the adapters move");
  expect(lethe_graph_close(engine, there) == LETHE_OK && lethe_graph_close(engine, back) == LETHE_OK, name + ": close");
  expect(lethe_graph_launch(engine, there) == LETHE_CLOSED, name + ": closed is closed");
}

void refusals(lethe_engine *engine) {
  OneBlock block(engine, LETHE_F32, kShape, batch());
  block.forward();
  lethe_ref kept = 0, other = 0;
  float number = 1;
  lethe_graph graph = 0;
  expect(lethe_buffer_alloc(engine, 64, &kept) == LETHE_OK, "a buffer");
  expect(lethe_graph_end(engine, &graph) == LETHE_INVALID_ARGUMENT && says("lethe_graph_begin"), "an end alone");
  const auto refused = [&](const char *name, auto &&call) {
    expect(lethe_graph_begin(engine) == LETHE_OK, std::string(name) + ": begin");
    expect(call() == LETHE_INVALID_ARGUMENT && says(name) && says("captured"), std::string(name) + " is refused");
    block.forward();
    expect(lethe_graph_end(engine, &graph) == LETHE_INVALID_ARGUMENT && graph == 0, std::string(name) + ": no graph");
  };
  refused("lethe_read", [&] { return lethe_read(engine, kept, &number, 4); });
  refused("lethe_write", [&] { return lethe_write(engine, kept, &number, 4); });
  refused("lethe_synchronize", [&] { return lethe_synchronize(engine); });
  refused("lethe_reserve_scratch", [&] { return lethe_reserve_scratch(engine, 1); });
  refused("lethe_use_stream", [&] { return lethe_use_stream(engine, nullptr); });
  refused("lethe_buffer_alloc", [&] { return lethe_buffer_alloc(engine, 64, &other); });
  refused("lethe_buffer_free", [&] { return lethe_buffer_free(engine, kept); });
  refused("lethe_graph_begin", [&] { return lethe_graph_begin(engine); });
  // A call whose arguments are wrong spoils the graph as well.
  expect(lethe_graph_begin(engine) == LETHE_OK, "begin");
  expect(lethe_zero(engine, kept, 128) == LETHE_OUT_OF_BOUNDS, "beyond the buffer");
  expect(lethe_graph_end(engine, &graph) == LETHE_INVALID_ARGUMENT, "no graph");
  // What the graph works on must be there.
  graph = captured(engine, [&] { expect(lethe_zero(engine, kept, 64) == LETHE_OK, "zero"); });
  expect(lethe_write(engine, kept, &number, 4) == LETHE_OK && lethe_graph_launch(engine, graph) == LETHE_OK, "launch");
  expect(lethe_read(engine, kept, &number, 4) == LETHE_OK && number == 0, "the graph has run");
  expect(lethe_buffer_free(engine, kept) == LETHE_OK, "free");
  expect(lethe_graph_launch(engine, graph) == LETHE_CLOSED && says("freed"), "its buffer is gone");
  expect(lethe_graph_close(engine, graph) == LETHE_OK, "close");
}

// Freed scratch memory is the device's again behind a wait.
int64_t unused(lethe_engine *engine) {
  int64_t bytes = 0, all = 0;
  expect(lethe_synchronize(engine) == LETHE_OK && lethe_memory(engine, &bytes, &all) == LETHE_OK, "memory");
  return bytes;
}

// An op that would need more scratch memory than there is; and a graph whose scratch memory was outgrown since.
void scratch_memory(const char *plugins, const char *backend) {
  lethe_engine *engine = nullptr;
  expect(lethe_engine_open(backend, plugins, 1, &engine) == LETHE_OK, "an engine without scratch memory");
  constexpr int64_t kMany = int64_t{1} << 16;
  lethe_ref g = 0, state = 0;
  lethe_graph graph = 0;
  expect(lethe_buffer_alloc(engine, 8 * kMany, &g) == LETHE_OK && lethe_buffer_alloc(engine, 64, &state) == LETHE_OK,
         "gradients");
  expect(lethe_graph_begin(engine) == LETHE_OK, "begin");
  expect(lethe_gradient_norm(engine, 64, g, 0.0f, state) == LETHE_INVALID_ARGUMENT && says("gradient_norm needs") &&
             says("once before"),
         "scratch memory is not taken");
  expect(lethe_graph_end(engine, &graph) == LETHE_INVALID_ARGUMENT, "no graph");
  // Nor is any more of it, as long as an op needs no more than was reserved.
  expect(lethe_reserve_scratch(engine, 1 << 20) == LETHE_OK, "reserve");
  graph = captured(engine, [&] { expect(lethe_gradient_norm(engine, 64, g, 0.0f, state) == LETHE_OK, "a norm"); });
  // A device's pool takes and keeps memory in pieces of a size of its own, which other engines share: there no number
  // is known.
  const bool known = std::strcmp(backend, "cuda_shim") == 0;
  const int64_t reserved = unused(engine);
  const auto holds = [&](int64_t more) { return unused(engine) == reserved - more || !known; };
  expect(lethe_gradient_norm(engine, 2 * kMany, g, 0.0f, state) == LETHE_OK && holds(0), "enough");
  expect(lethe_reserve_scratch(engine, 1 << 19) == LETHE_OK && holds(0), "less is there");
  expect(lethe_reserve_scratch(engine, 1 << 21) == LETHE_OK && holds(1 << 21), "both are held");
  expect(lethe_graph_close(engine, graph) == LETHE_OK && holds(1 << 20), "only the larger is");
  const std::vector<float> ones(static_cast<size_t>(2 * kMany), 1.0f);
  expect(lethe_write(engine, g, ones.data(), 8 * kMany) == LETHE_OK, "ones");
  expect(lethe_gradient_norm(engine, 64, g, 0.0f, state) == LETHE_OK, "once before");
  graph = captured(engine, [&] { expect(lethe_gradient_norm(engine, 64, g, 0.0f, state) == LETHE_OK, "a norm"); });
  expect(lethe_gradient_norm(engine, 2 * kMany, g, 0.0f, state) == LETHE_OK, "one that outgrows the scratch memory");
  expect(lethe_graph_launch(engine, graph) == LETHE_OK, "the graph's own is still there");
  float norm = 0;
  expect(lethe_read(engine, state, &norm, 4) == LETHE_OK && norm == 8.0f, "its norm");
  expect(lethe_graph_close(engine, graph) == LETHE_OK, "close");
  // An engine may close in the middle of a capture.
  expect(lethe_graph_begin(engine) == LETHE_OK && lethe_engine_close(engine) == LETHE_OK, "close while capturing");
}

// What a launch of a graph finds wrong is answered as the calls' own, once, and the next launch runs.
void faults(lethe_engine *engine) {
  OneBlock block(engine, LETHE_F32, kShape, batch());
  block.forward();
  block.chain();
  const lethe_graph graph = captured(engine, [&] {
    block.forward();
    block.head();
  });
  expect(lethe_graph_launch(engine, graph) == LETHE_OK, "sound");
  const double loss = block.answer();
  block.segments({0, 12, 0, 12, 0, 0, 11, 17, 11, 17, 0, 0});
  expect(lethe_graph_launch(engine, graph) == LETHE_OK, "the launch itself is in order");
  expect(lethe_synchronize(engine) == LETHE_OVERLAP, "two share a row");
  expect(says("attention_forward") && says("share query rows"), "the op that found it is named");
  block.segments({0, 12, 0, 12, 0, 0, 12, 17, 12, 17, 0, 0});
  expect(lethe_graph_launch(engine, graph) == LETHE_OK, "sound again");
  expect(block.answer() == loss, "the same bits as before");
  expect(lethe_graph_close(engine, graph) == LETHE_OK, "close");
}

void records(lethe_engine *engine) {
  lethe_ref buffer = 0;
  expect(lethe_buffer_alloc(engine, 256, &buffer) == LETHE_OK, "a buffer");
  expect(lethe_record_launches(engine, 1) == LETHE_OK, "record");
  const lethe_graph graph = captured(engine, [&] {
    expect(lethe_zero(engine, buffer, 128) == LETHE_OK, "zero");
    expect(lethe_convert(engine, 16, LETHE_F32, buffer, LETHE_BF16, buffer + 128) == LETHE_OK, "convert");
  });
  std::string all = records_of(engine);
  expect(count(all, R"("captured":true})") == 2 && count(all, R"("kernel":"convert")") == 1, "what is captured");
  expect(lethe_record_launches(engine, 1) == LETHE_OK, "record anew");
  expect(lethe_graph_launch(engine, graph) == LETHE_OK && lethe_graph_launch(engine, graph) == LETHE_OK, "launches");
  all = records_of(engine);
  expect(all == "{\"graph\":2}\n{\"graph\":2}\n", "one line a launch: " + all);
  expect(lethe_record_launches(engine, 0) == LETHE_OK, "record no more");
  expect(lethe_graph_close(engine, graph) == LETHE_OK && lethe_buffer_free(engine, buffer) == LETHE_OK, "close");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  if (argc != 3) {
    std::fprintf(stderr, "usage: graph_test PLUGIN_DIR BACKEND\n");
    return 2;
  }
  lethe_engine *engine = nullptr;
  const int status = lethe_engine_open(argv[2], argv[1], 1, &engine);
  if (status == LETHE_NO_DEVICE) {
    std::printf("graph_test: skipped: %s\n", lethe_error_trace());
    return 77;
  }
  expect(status == LETHE_OK, "engine");
  if (failed == 0) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) steps(engine, dtype);
    refusals(engine);
    scratch_memory(argv[1], argv[2]);
    faults(engine);
    records(engine);
  }
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
  std::printf("graph_test: %d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
