// Graphs: what an engine was asked for, captured from its stream and launched as one.
#include <algorithm>

#include "device.cuh"

namespace lethe::cuda {
namespace {

// Ends the stream's capture; the graph is the caller's to destroy.
cudaError_t end_capture(Device *device, cudaGraph_t *graph) {
  device->capturing = false;
  return cudaStreamEndCapture(device->stream, graph);
}

int instantiate(Device *device, cudaGraph_t captured, Graph *graph) {
  size_t nodes = 0;
  LETHE_CUDA_CALL(device, cudaGraphGetNodes(captured, nullptr, &nodes));
  graph->nodes = static_cast<int64_t>(nodes);
  graph->scratch = device->scratch;
  LETHE_CUDA_CALL(device, cudaGraphInstantiateWithFlags(&graph->exec, captured, 0));
  return LETHE_OK;
}

}  // namespace

// Thread local: other threads, with engines of their own, allocate as they like meanwhile.
int graph_begin(Device *device) {
  return run(device, __func__, [&] {
    LETHE_CUDA_CALL(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
    device->capturing = true;
    device->capture_failed = false;
    return static_cast<int>(LETHE_OK);
  });
}

int graph_end(Device *device, lethe_graph *id) {
  const bool failed = device->capture_failed;
  return run(device, __func__, [&] {
    cudaGraph_t captured = nullptr;
    const cudaError_t error = end_capture(device, &captured);
    if (failed) {
      if (captured != nullptr) cudaGraphDestroy(captured);
      cudaGetLastError();  // of a capture that the failed call made void
      return LETHE_CUDA_FAIL(device, LETHE_INVALID_ARGUMENT, "a call failed while it was captured: there is no graph");
    }
    LETHE_CUDA_CALL(device, error);
    Graph graph = {};
    const int status = instantiate(device, captured, &graph);
    cudaGraphDestroy(captured);
    LETHE_CUDA_TRY(status);
    *id = device->next_graph++;
    device->graphs[*id] = graph;
    return static_cast<int>(LETHE_OK);
  });
}

int graph_launch(Device *device, lethe_graph id) {
  return run(device, __func__, [&] {
    const Graph &graph = device->graphs.at(id);
    if (device->recording) record(device, R"({"graph":)" + std::to_string(graph.nodes) + "}");
    LETHE_CUDA_CALL(device, cudaGraphLaunch(graph.exec, device->stream));
    return static_cast<int>(LETHE_OK);
  });
}

int graph_close(Device *device, lethe_graph id) {
  return run(device, __func__, [&] {
    const auto at = device->graphs.find(id);
    cudaGraphExec_t exec = at->second.exec;
    device->graphs.erase(at);
    LETHE_CUDA_CALL(device, cudaGraphExecDestroy(exec));
    free_old_scratch(device);
    return static_cast<int>(LETHE_OK);
  });
}

void close_graphs(Device *device) {
  if (device->capturing) {
    cudaGraph_t captured = nullptr;
    end_capture(device, &captured);
    if (captured != nullptr) cudaGraphDestroy(captured);
  }
  for (const auto &graph : device->graphs) cudaGraphExecDestroy(graph.second.exec);
  device->graphs.clear();
  free_old_scratch(device);
}

}  // namespace lethe::cuda
