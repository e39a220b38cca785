// What the CUDA backend answers when the machine is at fault: no device, too little memory, a broken context. On the
// host shim, whose knobs make these happen: device_fault_test PLUGIN_DIR.
#include <dlfcn.h>

#include <cstring>
#include <string>
#include <vector>

#include "backends.h"
#include "op_check.h"

namespace lethe::test {
namespace {

struct Knobs {
  void (*set_memory)(int64_t);
  void (*fail_launch)(int, int);
  void (*set_device)(int, int, int);
};

template <class F>
void find(void *library, const char *name, F *function) {
  *function = reinterpret_cast<F>(dlsym(library, name));
  expect(*function != nullptr, name);
}

// Of the very library that the engine opens.
Knobs knobs_of(const std::string &plugins) {
  void *library = dlopen((plugins + "/liblethe_cuda_shim.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  expect(library != nullptr, library == nullptr ? dlerror() : "shim");
  Knobs knobs = {};
  if (library == nullptr) return knobs;
  find(library, "lethe_shim_set_memory", &knobs.set_memory);
  find(library, "lethe_shim_fail_launch", &knobs.fail_launch);
  find(library, "lethe_shim_set_device", &knobs.set_device);
  return knobs;
}

bool says(const std::string &part) { return std::strstr(lethe_error_trace(), part.c_str()) != nullptr; }

void refused(const char *plugins, const char *backend, const std::vector<std::string> &parts) {
  lethe_engine *engine = nullptr;
  expect(lethe_engine_open(backend, plugins, 1, &engine) == LETHE_NO_DEVICE, std::string(backend) + " does not open");
  for (const std::string &part : parts) expect(says(part), std::string(backend) + " says " + part);
}

void devices_that_do_not_serve(const char *plugins, const Knobs &knobs) {
  knobs.set_device(100, 8, 0);
  refused(plugins, "cuda_shim", {"no CUDA device", "nvidia-smi", "device=cpu"});
  knobs.set_device(35, 8, 0);
  refused(plugins, "cuda_shim", {"update the driver", "13.0"});
  knobs.set_device(0, 7, 5);
  refused(plugins, "cuda_shim", {"capability 7.5", "8.0", "device=cpu"});
  knobs.set_device(0, 8, 0);
  refused(plugins, "cuda_shim:1", {"cuda:1", "1 CUDA device"});
  knobs.fail_launch(0, 209);
  refused(plugins, "cuda_shim", {"no code for", "cuda-all"});
  knobs.fail_launch(-1, 0);
}

lethe_engine *opened(const char *plugins) {
  lethe_engine *engine = nullptr;
  expect(lethe_engine_open("cuda_shim", plugins, 1, &engine) == LETHE_OK, "open");
  return engine;
}

void memory_that_runs_out(const char *plugins, const Knobs &knobs) {
  lethe_engine *engine = opened(plugins), *other = opened(plugins);
  lethe_ref kept = 0, refused_buffer = 0, theirs = 0;
  int64_t left = 0, all = 0;
  expect(lethe_buffer_alloc(engine, 4096, &kept) == LETHE_OK, "a buffer");
  expect(lethe_memory(engine, &left, &all) == LETHE_OK && left > 0 && left < all, "memory");
  knobs.set_memory(all - left + 1000000);
  expect(lethe_buffer_alloc(engine, 2000000, &refused_buffer) == LETHE_OUT_OF_MEMORY, "too much");
  for (const char *part : {"asked for 2000000 bytes", "free are 1000000 bytes", "this engine holds 4096 bytes"}) {
    expect(says(part), part);
  }
  // Both engines live on.
  const std::vector<char> bytes(4096, 7);
  std::vector<char> back(4096);
  expect(lethe_write(engine, kept, bytes.data(), 4096) == LETHE_OK, "write");
  expect(lethe_read(engine, kept, back.data(), 4096) == LETHE_OK && back == bytes, "read");
  expect(lethe_buffer_alloc(other, 4096, &theirs) == LETHE_OK, "the other engine's buffer");
  knobs.set_memory(all);
  expect(lethe_buffer_alloc(engine, 2000000, &refused_buffer) == LETHE_OK, "enough again");
  expect(lethe_buffer_free(engine, refused_buffer) == LETHE_OK, "give it back");
  knobs.set_memory(all - left + 1000000);
  expect(lethe_buffer_alloc(engine, 2000000, &refused_buffer) == LETHE_OUT_OF_MEMORY, "too much again");
  expect(says("this engine holds 4096 bytes"), "what it gave back it does not hold");
  knobs.set_memory(all);
  expect(lethe_buffer_alloc(engine, 2000000, &refused_buffer) == LETHE_OK, "enough at last");
  // An op that finds no scratch memory says so, and its engine lives on.
  constexpr int64_t kMany = 1 << 20;
  lethe_ref g = 0, state = 0;
  expect(lethe_buffer_alloc(engine, 4 * kMany, &g) == LETHE_OK && lethe_buffer_alloc(engine, 64, &state) == LETHE_OK,
         "gradients");
  expect(lethe_memory(engine, &left, &all) == LETHE_OK, "memory");
  knobs.set_memory(all - left);
  expect(lethe_gradient_norm(engine, kMany, g, 0.0f, state) == LETHE_OUT_OF_MEMORY && says("gradient_norm"), "scratch");
  knobs.set_memory(all);
  expect(lethe_gradient_norm(engine, kMany, g, 0.0f, state) == LETHE_OK, "scratch again");
  expect(lethe_engine_close(other) == LETHE_OK, "close the other");
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
}

// What an engine has freed in its stream's order is there for a buffer: a wait gives it back.
void memory_that_was_freed(const char *plugins, const Knobs &knobs) {
  lethe_engine *engine = opened(plugins);
  lethe_ref buffer = 0;
  int64_t left = 0, all = 0;
  expect(lethe_reserve_scratch(engine, 1000000) == LETHE_OK && lethe_reserve_scratch(engine, 2000000) == LETHE_OK,
         "scratch");
  expect(lethe_memory(engine, &left, &all) == LETHE_OK, "memory");
  knobs.set_memory(all - left + 600000);
  expect(lethe_buffer_alloc(engine, 1500000, &buffer) == LETHE_OK, "a buffer where scratch was");
  expect(lethe_buffer_alloc(engine, 200000, &buffer) == LETHE_OUT_OF_MEMORY && says("free are 100000 bytes"),
         "the rest");
  knobs.set_memory(all);
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
}

// Of what a launch can end in, the errors that leave no way back, and no others.
void errors_that_end_a_context(const char *plugins, const Knobs &knobs) {
  const auto ends = [&](int error) {
    lethe_engine *engine = opened(plugins);
    lethe_ref a = 0, b = 0;
    expect(lethe_buffer_alloc(engine, 64, &a) == LETHE_OK && lethe_buffer_alloc(engine, 64, &b) == LETHE_OK, "buffers");
    knobs.fail_launch(0, error);
    const int status = lethe_convert(engine, 8, LETHE_F32, a, LETHE_BF16, b);
    knobs.fail_launch(-1, 0);
    expect(lethe_engine_close(engine) == LETHE_OK, "close");
    return status;
  };
  for (const int error : {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999}) {
    expect(ends(error) == LETHE_DEVICE_LOST, "error " + std::to_string(error) + " ends the context");
  }
  for (const int error : {1, 9, 98, 209, 701, 703, 720, 801}) {
    expect(ends(error) == LETHE_INTERNAL, "error " + std::to_string(error) + " does not end the context");
  }
}

// An operand that no device can read is refused before a kernel sees it.
void operands_across_a_boundary(const char *plugins) {
  lethe_engine *engine = opened(plugins);
  lethe_ref a = 0, b = 0;
  expect(lethe_buffer_alloc(engine, 64, &a) == LETHE_OK && lethe_buffer_alloc(engine, 64, &b) == LETHE_OK, "buffers");
  expect(lethe_convert(engine, 8, LETHE_F32, a + 2, LETHE_BF16, b) == LETHE_INVALID_ARGUMENT && says("src") &&
             says("multiple of 4"),
         "half a number off");
  expect(lethe_convert(engine, 8, LETHE_F32, a, LETHE_BF16, b + 1) == LETHE_INVALID_ARGUMENT && says("dst"), "odd");
  expect(lethe_convert(engine, 8, LETHE_F32, a + 4, LETHE_BF16, b + 2) == LETHE_OK, "one number off");
  expect(lethe_convert(engine, 0, LETHE_F32, a + 2, LETHE_BF16, b) == LETHE_OK, "nothing of it");
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
}

// A launch that ends the context is said once in full; from then on every call says that the device was lost.
void a_context_that_breaks(const char *plugins, const Knobs &knobs) {
  lethe_engine *engine = opened(plugins);
  lethe_ref a = 0, b = 0;
  expect(lethe_buffer_alloc(engine, 64, &a) == LETHE_OK && lethe_buffer_alloc(engine, 64, &b) == LETHE_OK, "buffers");
  expect(lethe_convert(engine, 8, LETHE_F32, a, LETHE_BF16, b) == LETHE_OK, "before");
  knobs.fail_launch(0, 700);
  expect(lethe_convert(engine, 8, LETHE_F32, a, LETHE_BF16, b) == LETHE_DEVICE_LOST, "the failing launch");
  for (const char *part : {"illegal memory access", "convert", "end this process", "last checkpoint"}) {
    expect(says(part), part);
  }
  float out[8] = {};
  expect(lethe_read(engine, b, out, 16) == LETHE_DEVICE_LOST, "read afterwards");
  expect(says("was lost before") && says("illegal memory access"), "says why");
  expect(lethe_convert(engine, 8, LETHE_F32, a, LETHE_BF16, b) == LETHE_DEVICE_LOST, "an op afterwards");
  expect(lethe_synchronize(engine) == LETHE_DEVICE_LOST, "a wait afterwards");
  lethe_ref more = 0;
  expect(lethe_buffer_alloc(engine, 64, &more) == LETHE_DEVICE_LOST, "memory afterwards");
  expect(lethe_buffer_free(engine, a) == LETHE_OK, "a buffer is given back");
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
  knobs.fail_launch(-1, 0);
}

// An index outside its table is answered once, by the next wait, and the engine goes on.
void a_fault_in_content(const char *plugins) {
  lethe_engine *engine = opened(plugins);
  lethe_ref ids = 0, table = 0, out = 0;
  const int32_t bad[] = {0, 9, -1}, good[] = {0, 1, 2};
  expect(lethe_buffer_alloc(engine, 12, &ids) == LETHE_OK && lethe_buffer_alloc(engine, 64, &table) == LETHE_OK &&
             lethe_buffer_alloc(engine, 48, &out) == LETHE_OK,
         "buffers");
  const auto look = [&] { return lethe_embedding_forward(engine, LETHE_F32, 3, 4, 4, 1.0f, table, ids, out); };
  expect(lethe_write(engine, ids, bad, 12) == LETHE_OK, "write");
  expect(look() == LETHE_OK, "the call itself cannot know");
  float values[12];
  expect(lethe_read(engine, out, values, 48) == LETHE_OUT_OF_BOUNDS, "the read knows");
  expect(says("ids[1] is 9, outside [0, 4)") && says("embedding_forward"), "names the index and the op");
  expect(lethe_read(engine, out, values, 48) == LETHE_OK, "said once");
  expect(lethe_write(engine, ids, good, 12) == LETHE_OK && look() == LETHE_OK, "a good call");
  expect(lethe_synchronize(engine) == LETHE_OK, "goes on");
  expect(lethe_engine_close(engine) == LETHE_OK, "close");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  const CommandLine line(argc, argv);
  const Knobs knobs = knobs_of(line.plugins);
  if (knobs.set_device != nullptr) {
    devices_that_do_not_serve(line.plugins, knobs);
    memory_that_runs_out(line.plugins, knobs);
    memory_that_was_freed(line.plugins, knobs);
    a_fault_in_content(line.plugins);
    operands_across_a_boundary(line.plugins);
    errors_that_end_a_context(line.plugins, knobs);
    a_context_that_breaks(line.plugins, knobs);
  }
  std::printf("device_fault_test: %d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
