/* The C boundary, as a plain C caller meets it: every misuse is a status with a trace, never a crash. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lethe.h"

static int failures = 0;
static int checks = 0;

#define EXPECT(condition)                                                                                        \
  do {                                                                                                           \
    ++checks;                                                                                                    \
    if (!(condition)) {                                                                                          \
      ++failures;                                                                                                \
      fprintf(stderr, "%s:%d: expected %s\n  trace: %s\n", __FILE__, __LINE__, #condition, lethe_error_trace()); \
    }                                                                                                            \
  } while (0)

static void norm_matches_its_definition(lethe_engine *engine) {
  enum { T = 3, D = 37 };
  float x[T * D], w[D], y[T * D];
  for (int i = 0; i < T * D; ++i) x[i] = (float)((i * 7919) % 101) / 50.0f - 1.0f;
  for (int i = 0; i < D; ++i) w[i] = 0.5f + (float)i / D;
  lethe_ref arena = 0;
  EXPECT(lethe_buffer_alloc(engine, (int64_t)(sizeof x + sizeof w + sizeof y), &arena) == LETHE_OK);
  const lethe_ref rx = arena, rw = rx + sizeof x, ry = rw + sizeof w;
  EXPECT(lethe_write(engine, rx, x, sizeof x) == LETHE_OK);
  EXPECT(lethe_write(engine, rw, w, sizeof w) == LETHE_OK);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, T, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_OK);
  EXPECT(lethe_read(engine, ry, y, sizeof y) == LETHE_OK);
  for (int t = 0; t < T; ++t) {
    double square = 0;
    for (int i = 0; i < D; ++i) square += (double)x[t * D + i] * x[t * D + i];
    const double r = 1.0 / sqrt(square / D + 1e-5);
    for (int i = 0; i < D; ++i) EXPECT(fabs(y[t * D + i] - x[t * D + i] * r * w[i]) < 1e-5);
  }
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, T, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, rx + 4, D, 0, 0) ==
         LETHE_OVERLAP);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, T + 100, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_OUT_OF_BOUNDS);
  EXPECT(strstr(lethe_error_trace(), "x needs") != NULL);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, INT64_MAX / 2, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0,
                            0) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, -1, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_norm_forward(engine, 7, LETHE_NORM_RMS, T, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, T, 1, D, 1e-5f, 0, 0, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_norm_forward(engine, LETHE_F32, LETHE_NORM_RMS, 0, 1, D, 1e-5f, 0, rx, D, rw, 0, 0, ry, D, 0, 0) ==
         LETHE_OK);
  EXPECT(lethe_buffer_free(engine, arena + 4) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_free(engine, arena) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, arena) == LETHE_CLOSED);
  EXPECT(lethe_read(engine, ry, y, sizeof y) == LETHE_CLOSED);
  lethe_ref again = 0;
  EXPECT(lethe_buffer_alloc(engine, 64, &again) == LETHE_OK);
  EXPECT(lethe_read(engine, arena, y, 4) == LETHE_CLOSED);
  EXPECT(lethe_buffer_free(engine, again) == LETHE_OK);
}

static void threads_are_bounded(const char *backend, const char *plugins) {
  const int32_t none_or_too_many[] = {-1, 0, 4097, INT32_MAX};
  for (int i = 0; i < 4; ++i) {
    lethe_engine *engine = NULL;
    EXPECT(lethe_engine_open(backend, plugins, none_or_too_many[i], &engine) == LETHE_INVALID_ARGUMENT);
    EXPECT(strstr(lethe_error_trace(), "must be from 1 to 4096") != NULL && engine == NULL);
  }
}

static void wrapped_memory_is_shared_and_not_freed(lethe_engine *engine) {
  float mine[4] = {1, 2, 3, 4}, seen[4];
  lethe_ref buffer = 0;
  EXPECT(lethe_buffer_wrap(engine, mine, sizeof mine, &buffer) == LETHE_OK);
  EXPECT(lethe_read(engine, buffer, seen, sizeof seen) == LETHE_OK);
  EXPECT(seen[3] == 4);
  EXPECT(lethe_zero(engine, buffer + 8, 8) == LETHE_OK);
  EXPECT(mine[1] == 2 && mine[2] == 0 && mine[3] == 0);
  EXPECT(lethe_zero(engine, buffer + 8, 12) == LETHE_OUT_OF_BOUNDS);
  /* Two refs to one place still overlap. */
  lethe_ref again = 0;
  EXPECT(lethe_buffer_wrap(engine, mine, sizeof mine, &again) == LETHE_OK);
  EXPECT(lethe_copy(engine, again, buffer, sizeof mine) == LETHE_OVERLAP);
  EXPECT(lethe_buffer_free(engine, again) == LETHE_OK);
  EXPECT(lethe_buffer_free(engine, buffer) == LETHE_OK);
  EXPECT(lethe_read(engine, buffer, seen, sizeof seen) == LETHE_CLOSED);
  EXPECT(mine[0] == 1);
  EXPECT(lethe_buffer_wrap(engine, NULL, 4, &buffer) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_wrap(engine, mine, 0, &buffer) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_wrap(engine, (char *)mine + 1, 4, &buffer) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_wrap(engine, mine, 4, NULL) == LETHE_INVALID_ARGUMENT);
  /* Still open when the engine closes: not the engine's to free. */
  EXPECT(lethe_buffer_wrap(engine, mine, sizeof mine, &buffer) == LETHE_OK);
}

/* "name:n" is the n-th device of cuda, and of nothing else. */
static void backends_are_named(const char *plugins) {
  lethe_engine *engine = NULL;
  const char *numbered[] = {"cpu:0", "cpu_avx2:1", "nonesuch:0", "cpu:"};
  for (size_t i = 0; i < sizeof numbered / sizeof *numbered; ++i) {
    EXPECT(lethe_engine_open(numbered[i], plugins, 1, &engine) == LETHE_INVALID_ARGUMENT && engine == NULL);
    EXPECT(strstr(lethe_error_trace(), "ordinals belong to cuda") != NULL);
  }
  const char *unreadable[] = {"cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda: 1", "cuda:1:2", "cuda:99999999999"};
  for (size_t i = 0; i < sizeof unreadable / sizeof *unreadable; ++i) {
    EXPECT(lethe_engine_open(unreadable[i], plugins, 1, &engine) == LETHE_INVALID_ARGUMENT && engine == NULL);
    EXPECT(strstr(lethe_error_trace(), "must be a device's number") != NULL);
  }
  /* A well-formed one looks for the plug-in. */
  EXPECT(lethe_engine_open("cuda:3", "nowhere", 1, &engine) == LETHE_NO_DEVICE && engine == NULL);
  EXPECT(strstr(lethe_error_trace(), "nowhere/liblethe_cuda.so") != NULL);
}

static void a_cpu_has_memory_but_no_stream(lethe_engine *engine) {
  int64_t unused = -1, total = -1, needed = 0;
  void *stream = engine;
  lethe_graph graph = 1;
  char out[64];
  EXPECT(lethe_synchronize(engine) == LETHE_OK);
  EXPECT(lethe_synchronize(NULL) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_memory(engine, &unused, &total) == LETHE_OK && unused > 0 && total >= unused);
  EXPECT(lethe_memory(engine, NULL, &total) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_memory(engine, &unused, NULL) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_reserve_scratch(engine, 1) == LETHE_UNSUPPORTED);
  EXPECT(lethe_reserve_scratch(engine, -1) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_stream(engine, &stream) == LETHE_UNSUPPORTED && stream == NULL);
  EXPECT(strstr(lethe_error_trace(), "'cpu' has no stream") != NULL);
  EXPECT(lethe_stream(engine, NULL) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_use_stream(engine, NULL) == LETHE_UNSUPPORTED);
  EXPECT(lethe_record_launches(engine, 1) == LETHE_UNSUPPORTED);
  EXPECT(lethe_launches(engine, out, sizeof out, &needed) == LETHE_UNSUPPORTED);
  EXPECT(lethe_launches(engine, NULL, 0, &needed) == LETHE_UNSUPPORTED);
  EXPECT(lethe_launches(engine, NULL, 1, &needed) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_launches(engine, out, -1, &needed) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_head_set_chunk(engine, LETHE_F32, 4, 8, 1) == LETHE_UNSUPPORTED);
  EXPECT(lethe_head_chunk(engine, LETHE_F32, 4, 8, &needed) == LETHE_UNSUPPORTED);
  EXPECT(lethe_head_set_tiles(engine, LETHE_F32, 4, 8, 1, 1) == LETHE_UNSUPPORTED);
  EXPECT(lethe_head_tiles(engine, LETHE_F32, 4, 8, &needed, &needed) == LETHE_UNSUPPORTED);
  EXPECT(lethe_graph_begin(engine) == LETHE_UNSUPPORTED);
  EXPECT(strstr(lethe_error_trace(), "'cpu' has no graph_begin") != NULL);
  EXPECT(lethe_graph_end(engine, &graph) == LETHE_INVALID_ARGUMENT && graph == 0);
  EXPECT(lethe_graph_end(engine, NULL) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_graph_launch(engine, 1) == LETHE_CLOSED && lethe_graph_close(engine, 0) == LETHE_CLOSED);
  EXPECT(lethe_launches(engine, out, sizeof out, NULL) == LETHE_INVALID_ARGUMENT);
}

static void an_address_is_the_buffers(lethe_engine *engine) {
  float mine[4] = {1, 2, 3, 4};
  lethe_ref buffer = 0;
  void *address = NULL;
  EXPECT(lethe_buffer_wrap(engine, mine, sizeof mine, &buffer) == LETHE_OK);
  EXPECT(lethe_address(engine, buffer, sizeof mine, &address) == LETHE_OK && address == mine);
  EXPECT(lethe_address(engine, buffer + 8, 8, &address) == LETHE_OK && address == mine + 2);
  EXPECT(lethe_address(engine, buffer + 8, 9, &address) == LETHE_OUT_OF_BOUNDS && address == NULL);
  EXPECT(lethe_address(engine, buffer, -1, &address) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_address(engine, 0, 4, &address) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_address(engine, buffer, 4, NULL) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_free(engine, buffer) == LETHE_OK);
  EXPECT(lethe_address(engine, buffer, 4, &address) == LETHE_CLOSED);
}

int main(int argc, char **argv) {
  const char *plugins = argc > 1 ? argv[1] : ".";
  lethe_engine *engine = NULL;
  char description[256];
  float sink[4];
  EXPECT(lethe_abi() == LETHE_ABI);
  EXPECT(lethe_engine_open("nonesuch", plugins, 1, &engine) == LETHE_NO_DEVICE);
  EXPECT(strstr(lethe_error_trace(), "liblethe_nonesuch.so") != NULL);
  backends_are_named(plugins);
  threads_are_bounded("cpu_avx2", plugins);
  EXPECT(lethe_engine_open(NULL, plugins, 1, &engine) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_engine_open("cpu_avx2", plugins, 2, &engine) == LETHE_OK);
  EXPECT(engine != NULL);
  if (engine == NULL) return 1;
  EXPECT(lethe_engine_describe(engine, description, sizeof description) == LETHE_OK);
  EXPECT(strstr(description, "\"threads\":2") != NULL);
  EXPECT(lethe_engine_describe(engine, description, 3) == LETHE_INVALID_ARGUMENT);
  lethe_ref huge = 0;
  EXPECT(lethe_buffer_alloc(engine, INT64_MAX, &huge) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_alloc(engine, 0, &huge) == LETHE_INVALID_ARGUMENT);
  EXPECT(lethe_buffer_alloc(engine, 64, NULL) == LETHE_INVALID_ARGUMENT);
  norm_matches_its_definition(engine);
  wrapped_memory_is_shared_and_not_freed(engine);
  a_cpu_has_memory_but_no_stream(engine);
  an_address_is_the_buffers(engine);
  EXPECT(lethe_engine_close(engine) == LETHE_OK);
  EXPECT(lethe_engine_close(engine) == LETHE_CLOSED);
  EXPECT(lethe_read(engine, 1, sink, 4) == LETHE_CLOSED);
  printf("abi_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
