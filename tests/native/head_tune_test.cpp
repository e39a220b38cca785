// How many rows a chunk of the head has and which algorithms its products take: what is set is kept to, what is
// measured is set, and no number depends on it. head_tune_test PLUGIN_DIR BACKEND.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "head_problem.h"

namespace lethe::test {
namespace {

constexpr int64_t kRows = 37, kHidden = 24, kVocabulary = 50;
// The head's workspace never exceeds it, but on the shim, where it is less.
constexpr int64_t kMostBytes = 600000000, kMostShimBytes = int64_t{32} << 20;

// What a forward pass needs and gives.
struct Pass {
  Engine *e;
  int32_t dtype;
  bool shim;
  lethe_ref h, w, rows, stats, dh_rows, workspace;
  int64_t least = 0, most = 0;

  Pass(Engine *engine, int32_t storage, bool on_shim) : e(engine), dtype(storage), shim(on_shim) {
    Random random(5);
    h = store(e, dtype, normal(&random, kRows * kHidden, 1.0)).ref;
    w = store(e, dtype, normal(&random, kVocabulary * kHidden, 0.5)).ref;
    std::vector<int32_t> records;
    for (int32_t i = 0; i < kRows; ++i) {
      records.insert(records.end(), {i, i % 50, i % 2 == 0 ? LETHE_ROW_NLL : LETHE_ROW_UNIFORM_KL, -1, -1});
    }
    rows = e->put(records);
    stats = e->put(std::vector<float>(kRows * LETHE_STATISTICS));
    dh_rows = store(e, dtype, std::vector<float>(kRows * kHidden)).ref;
    EXPECT(lethe_head_workspace(e->engine, dtype, kRows, kHidden, kVocabulary, &least, &most) == LETHE_OK);
    workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
  }
  ~Pass() { e->drop({h, w, rows, stats, dh_rows, workspace}); }
  Pass(const Pass &) = delete;
  Pass &operator=(const Pass &) = delete;

  int forward() const {
    return lethe_head_forward(e->engine, dtype, kRows, kRows, kHidden, kVocabulary, 0, 0, h, w, 0, 0.0f, 0, rows, 0,
                              stats, dh_rows, workspace, most);
  }
  int tune(int64_t *chunk) const {
    return lethe_head_tune(e->engine, dtype, kRows, kRows, kHidden, kVocabulary, 0, 0, h, w, 0, 0.0f, 0, rows, 0, stats,
                           dh_rows, workspace, most, chunk);
  }
  int set(int64_t chunk) const { return lethe_head_set_chunk(e->engine, dtype, kHidden, kVocabulary, chunk); }
  int64_t chunk() const {
    int64_t rows_set = -1;
    EXPECT(lethe_head_chunk(e->engine, dtype, kHidden, kVocabulary, &rows_set) == LETHE_OK);
    return rows_set;
  }
  int set_tiles(int64_t logits, int64_t gradient) const {
    return lethe_head_set_tiles(e->engine, dtype, kHidden, kVocabulary, logits, gradient);
  }
  std::pair<int64_t, int64_t> tiles() const {
    std::pair<int64_t, int64_t> set(-1, -1);
    EXPECT(lethe_head_tiles(e->engine, dtype, kHidden, kVocabulary, &set.first, &set.second) == LETHE_OK);
    return set;
  }
  std::vector<float> statistics() const { return e->get<float>(stats, kRows * LETHE_STATISTICS); }
  std::vector<float> gradients() const { return load(e, dtype, dh_rows, kRows * kHidden); }
};

std::string records_of(Engine *e) {
  int64_t needed = 0;
  EXPECT(lethe_launches(e->engine, nullptr, 0, &needed) == LETHE_OK);
  std::string out(static_cast<size_t>(needed), '\0');
  EXPECT(lethe_launches(e->engine, out.data(), needed, &needed) == LETHE_OK);
  return out.c_str();
}

int count(const std::string &text, const std::string &part) {
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

// The numbers of chunks of other sizes, and how many chunks there are.
void what_is_set_is_kept_to(const Pass &pass) {
  EXPECT(pass.chunk() == 0 && pass.forward() == LETHE_OK);
  const std::vector<float> statistics = pass.statistics(), gradients = pass.gradients();
  for (const int64_t chunk : {int64_t{1}, int64_t{5}, int64_t{16}, kRows, int64_t{1000}}) {
    EXPECT(pass.set(chunk) == LETHE_OK && pass.chunk() == chunk);
    EXPECT(lethe_record_launches(pass.e->engine, 1) == LETHE_OK);
    EXPECT(pass.forward() == LETHE_OK);
    const auto chunks = static_cast<int>((kRows + chunk - 1) / chunk);
    EXPECT(count(records_of(pass.e), R"("kernel":"head_gather")") == chunks);
    EXPECT(lethe_record_launches(pass.e->engine, 0) == LETHE_OK);
    // All of them fall into one bucket of matrix kernels.
    EXPECT(pass.statistics() == statistics && pass.gradients() == gradients);
  }
  EXPECT(pass.set(-1) == LETHE_INVALID_ARGUMENT && pass.chunk() == 1000);
  EXPECT(pass.set(0) == LETHE_OK && pass.chunk() == 0);
}

// The records of one pass's products: of the logits, then of the gradient.
std::vector<std::string> products_of(const Pass &pass) {
  EXPECT(lethe_record_launches(pass.e->engine, 1) == LETHE_OK);
  EXPECT(pass.forward() == LETHE_OK);
  const std::string records = records_of(pass.e);
  EXPECT(lethe_record_launches(pass.e->engine, 0) == LETHE_OK);
  std::vector<std::string> products;
  for (size_t i = records.find(R"("gemm":)"); i != std::string::npos; i = records.find(R"("gemm":)", i + 1)) {
    products.push_back(records.substr(i, records.find('}', i) - i));
  }
  return products;
}

// Products take the algorithms that were set for them, and those alone; a place that a list does not have is the first.
void tiles_that_are_set_are_kept_to(const Pass &pass, bool shim) {
  EXPECT(pass.tiles() == std::make_pair(int64_t{0}, int64_t{0}) && pass.forward() == LETHE_OK);
  const std::vector<float> statistics = pass.statistics(), gradients = pass.gradients();
  EXPECT(pass.set_tiles(1, 2) == LETHE_OK && pass.tiles() == std::make_pair(int64_t{1}, int64_t{2}));
  const std::vector<std::string> products = products_of(pass);
  EXPECT(products.size() == 2);
  if (shim && products.size() == 2) {
    EXPECT(count(products[0], R"("tiles":1,)") == 1 && count(products[1], R"("tiles":2,)") == 1);
    EXPECT(pass.statistics() == statistics && pass.gradients() == gradients);
  }
  EXPECT(pass.set_tiles(1000, 1000) == LETHE_OK);
  for (const std::string &product : products_of(pass)) EXPECT(count(product, R"("tiles":)") == 0);
  EXPECT(pass.statistics() == statistics && pass.gradients() == gradients);
  EXPECT(pass.set_tiles(-1, 0) == LETHE_INVALID_ARGUMENT && pass.set_tiles(0, -1) == LETHE_INVALID_ARGUMENT);
  EXPECT(pass.tiles() == std::make_pair(int64_t{1000}, int64_t{1000}) && pass.set_tiles(0, 0) == LETHE_OK);
}

// The twin's algorithms differ in nothing but their time: the one that is quick is what measuring takes.
void quick_tiles_are_taken(const Pass &pass, const char *plugin_dir) {
  const std::string folder = std::string(plugin_dir) + "/";
  void *plugin = dlopen((folder + "liblethe_cuda_shim.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
  void *twin = dlopen((folder + "libcublaslt_twin.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
  EXPECT(plugin != nullptr && twin != nullptr);
  if (plugin == nullptr || twin == nullptr) return;
  using Clock = void (*)(double milliseconds);
  const auto clock = reinterpret_cast<Clock>(dlsym(plugin, "lethe_shim_pass_time"));
  const auto quick = reinterpret_cast<void (*)(int, Clock)>(dlsym(twin, "lethe_twin_quick"));
  for (const int tile : {2, 0, 1}) {
    quick(tile, clock);
    int64_t chunk = -1;
    EXPECT(pass.tune(&chunk) == LETHE_OK);
    EXPECT(pass.tiles() == std::make_pair(int64_t{tile}, int64_t{tile}));
  }
  quick(-1, nullptr);
  EXPECT(pass.set(0) == LETHE_OK && pass.set_tiles(0, 0) == LETHE_OK);
  dlclose(twin);
  dlclose(plugin);
}

void what_is_measured_is_set(const Pass &pass) {
  EXPECT(pass.set(3) == LETHE_OK && pass.forward() == LETHE_OK);
  const std::vector<float> statistics = pass.statistics(), gradients = pass.gradients();
  EXPECT(lethe_zero(pass.e->engine, pass.stats, kRows * LETHE_STATISTICS * 4) == LETHE_OK);
  int64_t chunk = -1;
  EXPECT(lethe_record_launches(pass.e->engine, 1) == LETHE_OK);
  EXPECT(pass.tune(&chunk) == LETHE_OK && chunk >= 0 && pass.chunk() == chunk);
  const std::string records = records_of(pass.e);
  EXPECT(lethe_record_launches(pass.e->engine, 0) == LETHE_OK);
  // One wait for each size that is tried, with passes of several chunk sizes between them.
  EXPECT(count(records, R"({"wait")") >= (pass.shim ? 5 : 1));
  // On a device a row's bits may depend on what was set.
  if (pass.shim) EXPECT(pass.statistics() == statistics && pass.gradients() == gradients);
  // Another shape is another head.
  int64_t other = -1;
  EXPECT(lethe_head_chunk(pass.e->engine, pass.dtype, kHidden, kVocabulary + 1, &other) == LETHE_OK && other == 0);
  EXPECT(pass.set(0) == LETHE_OK && pass.set_tiles(0, 0) == LETHE_OK);
}

void rows_at_fault_are_found(const Pass &pass) {
  EXPECT(pass.set(7) == LETHE_OK && pass.set_tiles(2, 1) == LETHE_OK);
  const int32_t wrong = kRows, right = 0;
  int64_t chunk = -1;
  EXPECT(lethe_write(pass.e->engine, pass.rows, &wrong, 4) == LETHE_OK);
  EXPECT(pass.tune(&chunk) == LETHE_OUT_OF_BOUNDS && std::strstr(lethe_error_trace(), "row 0: source") != nullptr);
  EXPECT(pass.chunk() == 7 && pass.tiles() == std::make_pair(int64_t{2}, int64_t{1}));
  EXPECT(lethe_write(pass.e->engine, pass.rows, &right, 4) == LETHE_OK);
  EXPECT(pass.set(0) == LETHE_OK && pass.set_tiles(0, 0) == LETHE_OK);
  EXPECT(pass.forward() == LETHE_OK && lethe_synchronize(pass.e->engine) == LETHE_OK);
  // It waits: no graph can hold it.
  EXPECT(lethe_graph_begin(pass.e->engine) == LETHE_OK);
  EXPECT(pass.tune(&chunk) == LETHE_INVALID_ARGUMENT);
  lethe_graph graph = 0;
  EXPECT(lethe_graph_end(pass.e->engine, &graph) == LETHE_INVALID_ARGUMENT);
}

void the_workspace_has_a_cap(Engine *e, bool shim) {
  const int64_t cap = shim ? kMostShimBytes : kMostBytes;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const int64_t V : {int64_t{50}, int64_t{32000}, int64_t{128256}, int64_t{262144}}) {
      for (const int64_t d : {int64_t{64}, int64_t{4096}, int64_t{16384}}) {
        int64_t before = 0;
        for (const int64_t n : {int64_t{1}, int64_t{1000}, int64_t{65536}, int64_t{1} << 31}) {
          int64_t least = 0, most = 0;
          EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
          EXPECT(least <= most && most <= std::max(cap, least));
          before = most;
        }
        EXPECT(before > cap / 2 || V < 32000);
      }
    }
  }
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  if (argc != 3) {
    std::fprintf(stderr, "usage: head_tune_test PLUGIN_DIR BACKEND\n");
    return 2;
  }
  Engine e(argv[2], argv[1]);
  const bool shim = std::string(argv[2]) == "cuda_shim";
  if (e.status == LETHE_NO_DEVICE) return 77;
  EXPECT(e.status == LETHE_OK);
  if (e.status != LETHE_OK) return 1;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    const Pass pass(&e, dtype, shim);
    what_is_set_is_kept_to(pass);
    tiles_that_are_set_are_kept_to(pass, shim);
    if (shim) quick_tiles_are_taken(pass, argv[1]);
    what_is_measured_is_set(pass);
    rows_at_fault_are_found(pass);
  }
  the_workspace_has_a_cap(&e, shim);
  std::printf("head_tune_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
