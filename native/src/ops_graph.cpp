// Graphs: a run of calls that is captured once and launched as one.
#include <algorithm>

#include "check.h"

using lethe::Graph;
using lethe::guarded;

namespace {

int find_graph(lethe_engine *engine, lethe_graph id, Graph **graph) {
  LETHE_TRY(lethe_engine::check(engine));
  if (id == 0 || id > engine->graphs.size() || !engine->graphs[id - 1].open) {
    return LETHE_FAIL(LETHE_CLOSED, "the graph was closed, or never captured by this engine");
  }
  *graph = &engine->graphs[id - 1];
  return LETHE_OK;
}

}  // namespace

extern "C" {

int lethe_graph_begin(lethe_engine *engine) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_graph_begin"));
    LETHE_TRY(LETHE_CALL(engine, graph_begin));
    engine->graphs.emplace_back();
    engine->capturing = true;
    engine->capture_failed = false;
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_graph_end(lethe_engine *engine, lethe_graph *graph) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (graph == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "graph must not be null");
    *graph = 0;
    if (!engine->capturing) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "nothing is captured; call lethe_graph_begin first");
    }
    engine->capturing = false;
    Graph &captured = engine->graphs.back();
    LETHE_TRY(LETHE_CALL(engine, graph_end, &captured.of_backend));
    if (engine->capture_failed) {
      LETHE_TRY(LETHE_CALL(engine, graph_close, captured.of_backend));
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "a call was refused while it was captured: there is no graph");
    }
    captured.open = true;
    *graph = engine->graphs.size();
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_graph_launch(lethe_engine *engine, lethe_graph graph) {
  return guarded(__func__, [&] {
    Graph *found = nullptr;
    LETHE_TRY(find_graph(engine, graph, &found));
    LETHE_TRY(engine->refuse_capture("lethe_graph_launch"));
    const bool whole = std::all_of(found->buffers.begin(), found->buffers.end(), [&](const auto &used) {
      const lethe::Buffer &buffer = engine->buffers[used.first];
      return buffer.open && buffer.generation == used.second;
    });
    if (!whole) {
      return LETHE_FAIL(LETHE_CLOSED, "a buffer that the graph works on was freed; close the graph and capture anew");
    }
    return LETHE_CALL(engine, graph_launch, found->of_backend);
  });
}

int lethe_graph_close(lethe_engine *engine, lethe_graph graph) {
  return guarded(__func__, [&] {
    Graph *found = nullptr;
    LETHE_TRY(find_graph(engine, graph, &found));
    LETHE_TRY(engine->refuse_capture("lethe_graph_close"));
    found->open = false;
    found->buffers.clear();
    return LETHE_CALL(engine, graph_close, found->of_backend);
  });
}

}  // extern "C"
