// Copies beside the other work: aside_test PLUGIN_DIR BACKEND. On the shim they are done as late as CUDA allows, so
// that what forgets to wait reads what stood there before.
#include <cstring>
#include <string>
#include <vector>

#include "op_check.h"

#define EXPECT(condition) expect((condition), #condition)

namespace lethe::test {
namespace {

constexpr int64_t kCount = 1000;
constexpr int64_t kBytes = kCount * 4;

void write(lethe_engine *engine, lethe_ref to, float value) {
  const std::vector<float> values(kCount, value);
  EXPECT(lethe_write(engine, to, values.data(), kBytes) == LETHE_OK);
}

bool holds(lethe_engine *engine, lethe_ref from, float value) {
  std::vector<float> values(kCount);
  EXPECT(lethe_read(engine, from, values.data(), kBytes) == LETHE_OK);
  for (const float v : values) {
    if (v != value) return false;
  }
  return true;
}

lethe_ref host_buffer(lethe_engine *engine, int64_t bytes) {
  lethe_ref buffer = 0;
  EXPECT(lethe_buffer_alloc_host(engine, bytes, &buffer) == LETHE_OK);
  return buffer;
}

lethe_ref device_buffer(lethe_engine *engine) {
  lethe_ref buffer = 0;
  EXPECT(lethe_buffer_alloc(engine, kBytes, &buffer) == LETHE_OK);
  return buffer;
}

int64_t aside(lethe_engine *engine, lethe_ref to, lethe_ref from) {
  int64_t ticket = 0;
  EXPECT(lethe_copy_aside(engine, to, from, kBytes, &ticket) == LETHE_OK);
  return ticket;
}

void wait(lethe_engine *engine, int64_t ticket) { EXPECT(lethe_wait_aside(engine, ticket) == LETHE_OK); }

// Out and back: the device's buffer serves for something else meanwhile.
void there_and_back(lethe_engine *engine) {
  const lethe_ref device = device_buffer(engine), host = host_buffer(engine, kBytes);
  EXPECT(holds(engine, host, 0.0f));
  write(engine, device, 3.0f);
  const int64_t out = aside(engine, host, device);
  EXPECT(out == 1);
  wait(engine, out);
  write(engine, device, 4.0f);
  EXPECT(holds(engine, host, 3.0f) && holds(engine, device, 4.0f));
  const int64_t back = aside(engine, device, host);
  EXPECT(back == 2);
  wait(engine, back);
  EXPECT(holds(engine, device, 3.0f));
  EXPECT(lethe_buffer_free(engine, host) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, device) == LETHE_OK);
}

// A later ticket stands for those before it, also when there were more copies than events.
void later_tickets_wait_for_earlier_copies(lethe_engine *engine) {
  const lethe_ref device = device_buffer(engine);
  std::vector<lethe_ref> hosts;
  int64_t last = 0;
  for (int i = 0; i < 150; ++i) {
    const lethe_ref host = host_buffer(engine, kBytes);
    if (i > 0) wait(engine, last);
    write(engine, device, static_cast<float>(i));
    last = aside(engine, host, device);
    hosts.push_back(host);
  }
  EXPECT(lethe_synchronize(engine) == LETHE_OK);
  for (int i = 0; i < 150; ++i) EXPECT(holds(engine, hosts[static_cast<size_t>(i)], static_cast<float>(i)));
  wait(engine, 3);
  for (const lethe_ref host : hosts) EXPECT(lethe_buffer_free(engine, host) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, device) == LETHE_OK);
}

// The shim is as late as a device may be, the CPU is never; of a device nothing is known.
void without_a_wait_nothing_is_promised(lethe_engine *engine, const std::string &backend) {
  const lethe_ref device = device_buffer(engine), host = host_buffer(engine, kBytes);
  write(engine, device, 5.0f);
  const int64_t ticket = aside(engine, host, device);
  if (backend == "cuda_shim") EXPECT(holds(engine, host, 0.0f));
  if (backend.rfind("cpu", 0) == 0) EXPECT(holds(engine, host, 5.0f));
  wait(engine, ticket);
  EXPECT(holds(engine, host, 5.0f));
  EXPECT(lethe_buffer_free(engine, host) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, device) == LETHE_OK);
}

// Every op takes the host's memory, too.
void ops_take_host_memory(lethe_engine *engine) {
  const lethe_ref from = host_buffer(engine, kBytes), to = host_buffer(engine, kBytes / 2);
  write(engine, from, 1.5f);
  EXPECT(lethe_convert(engine, kCount, LETHE_F32, from, LETHE_BF16, to) == LETHE_OK);
  std::vector<uint16_t> values(kCount);
  EXPECT(lethe_read(engine, to, values.data(), kBytes / 2) == LETHE_OK);
  EXPECT(values.front() == 0x3fc0 && values.back() == 0x3fc0);
  EXPECT(lethe_buffer_free(engine, from) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, to) == LETHE_OK);
}

void bad_arguments(lethe_engine *engine, int64_t tickets) {
  lethe_ref buffer = 1;
  int64_t ticket = 1;
  EXPECT(lethe_buffer_alloc_host(engine, 0, &buffer) == LETHE_INVALID_ARGUMENT && buffer == 0);
  EXPECT(lethe_buffer_alloc_host(engine, 64, nullptr) == LETHE_INVALID_ARGUMENT);
  const lethe_ref device = device_buffer(engine), host = host_buffer(engine, kBytes - 4);
  EXPECT(lethe_copy_aside(engine, host, device, kBytes, &ticket) == LETHE_OUT_OF_BOUNDS && ticket == 0);
  EXPECT(lethe_copy_aside(engine, device, device, kBytes, &ticket) == LETHE_OVERLAP);
  EXPECT(lethe_copy_aside(engine, host, device, 4, nullptr) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_wait_aside(engine, 0) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_wait_aside(engine, tickets + 1) == LETHE_INVALID_ARGUMENT);
  EXPECT(std::strstr(lethe_error_trace(), "the copies so far had 1 to ") != nullptr);
  EXPECT(lethe_buffer_free(engine, host) == LETHE_OK);
  EXPECT(lethe_copy_aside(engine, host, device, 4, &ticket) == LETHE_CLOSED);
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("aside_test", argc, argv, [](lethe_engine *engine, const char *, const char *backend) {
    there_and_back(engine);
    later_tickets_wait_for_earlier_copies(engine);
    without_a_wait_nothing_is_promised(engine, backend);
    ops_take_host_memory(engine);
    bad_arguments(engine, 153);
  });
}
