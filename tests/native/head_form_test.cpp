// Which form of the row kernel the head launches, on devices whose shared memory the shim's knobs make small:
// head_form_test PLUGIN_DIR. The results of each form at each size of cluster are held to the others'.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "head_problem.h"
#include "tolerance.h"

namespace {

using namespace lethe::test;

struct Knobs {
  void (*set_device)(int, int, int);
  void (*set_shared)(int64_t);
};

// Of the very library that the engine opens.
Knobs knobs_of(const std::string &plugins) {
  void *library = dlopen((plugins + "/liblethe_cuda_shim.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  Knobs knobs = {};
  EXPECT(library != nullptr);
  if (library == nullptr) return knobs;
  knobs.set_device = reinterpret_cast<void (*)(int, int, int)>(dlsym(library, "lethe_shim_set_device"));
  knobs.set_shared = reinterpret_cast<void (*)(int64_t)>(dlsym(library, "lethe_shim_set_shared"));
  EXPECT(knobs.set_device != nullptr && knobs.set_shared != nullptr);
  return knobs;
}

// What LETHE_HEAD_ROWS asks for when the engine opens.
struct FormEngine {
  FormEngine(const char *plugins, const char *form) : set(form), engine("cuda_shim", plugins) {}
  struct Set {
    explicit Set(const char *form) { form == nullptr ? unsetenv(kName) : setenv(kName, form, 1); }
    ~Set() { unsetenv(kName); }
    static constexpr const char *kName = "LETHE_HEAD_ROWS";
  } set;
  Engine engine;
};

void the_form_is_named(const char *plugins) {
  const struct {
    const char *given, *named;
  } forms[] = {
      {nullptr, "two_looks"}, {"", "two_looks"}, {"two_looks", "two_looks"}, {"on_chip", "on_chip"}, {"auto", "auto"}};
  for (const auto &form : forms) {
    FormEngine e(plugins, form.given);
    std::string said(1024, '\0');
    EXPECT(e.engine.status == LETHE_OK && lethe_engine_describe(e.engine.engine, said.data(), 1024) == LETHE_OK);
    EXPECT(said.find(std::string(R"("head_rows":")") + form.named + "\"") != std::string::npos);
  }
  FormEngine unknown(plugins, "cluster");
  EXPECT(unknown.engine.status == LETHE_INVALID_ARGUMENT &&
         std::strstr(lethe_error_trace(), "LETHE_HEAD_ROWS=cluster; give two_looks, on_chip or auto") != nullptr);
}

struct Result {
  int status;
  std::vector<float> stats, rows;
  std::string launches;
};

constexpr int64_t kRows = 24, kWidth = 20, kColumns = 1003;

// A head's first pass. least: a chunk is as small as can be.
Result pass(Engine *e, int32_t dtype, bool references, bool least) {
  const Problem p = make_problem(e, dtype, kRows, kWidth, kColumns, references, {true, 9, references});
  const Counts counts(p.records, p.params);
  int64_t smallest = 0, largest = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, kRows, kWidth, kColumns, &smallest, &largest) == LETHE_OK);
  const int64_t bytes = least ? smallest : largest;
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(bytes)));
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(kRows * LETHE_STATISTICS)));
  const lethe_ref rows = e->put(std::vector<float>(static_cast<size_t>(kRows * kWidth)));
  EXPECT(lethe_record_launches(e->engine, 1) == LETHE_OK);
  Result r = {};
  r.status = lethe_head_forward(e->engine, dtype, kRows, p.sources, kWidth, kColumns, counts.references, counts.seconds,
                                p.h.ref, p.w.ref, p.bias.ref, p.soft_cap, p.mean, p.rows, p.row_params, stats, rows,
                                workspace, bytes);
  if (r.status != LETHE_OK) return r;
  int64_t needed = 0;
  EXPECT(lethe_launches(e->engine, nullptr, 0, &needed) == LETHE_OK);
  r.launches.assign(static_cast<size_t>(needed), '\0');
  EXPECT(lethe_launches(e->engine, &r.launches[0], needed, &needed) == LETHE_OK);
  EXPECT(lethe_record_launches(e->engine, 0) == LETHE_OK);
  r.stats = e->get<float>(stats, static_cast<size_t>(kRows * LETHE_STATISTICS));
  r.rows = load(e, dtype, rows, static_cast<size_t>(kRows * kWidth));
  return r;
}

// The launches of row kernels, each "name bytes cluster".
std::vector<std::string> row_launches(const std::string &records) {
  const auto number = [](const std::string &line, const char *key) {
    const size_t at = line.find(key);
    return at == std::string::npos ? std::string("1") : std::to_string(std::atoll(line.c_str() + at + strlen(key)));
  };
  std::vector<std::string> all;
  for (size_t begin = 0, end; (end = records.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = records.substr(begin, end - begin);
    for (const std::string name : {"head_rows", "head_rows_onchip"}) {
      if (line.find("\"kernel\":\"" + name + "\"") == std::string::npos) continue;
      all.push_back(name + " " + number(line, "\"bytes\":") + " " + number(line, "\"cluster\":"));
    }
  }
  return all;
}

std::string launch_of(const char *kernel, int64_t rows, int64_t row_bytes, unsigned cluster) {
  return std::string(kernel) + " " + std::to_string(rows * kColumns * row_bytes) + " " + std::to_string(cluster);
}

// Sums in another order, of storage in fp32 or bf16.
void alike(const Result &seen, const Result &expected, int32_t dtype) {
  const std::vector<double> rows(expected.rows.begin(), expected.rows.end());
  const double sums = 4 * lethe::tolerance::head::kSum;
  EXPECT(distance(seen.rows, rows) <= sums + (dtype == LETHE_BF16 ? 2 * lethe::tolerance::kBf16Unit : 0));
  for (size_t i = 0; i < seen.stats.size(); ++i) {
    if (i % LETHE_STATISTICS == LETHE_STAT_KL) continue;  // the case list's: near the reference it is a small number
    const double size = 8 + std::fabs(static_cast<double>(expected.stats[i]));
    EXPECT(std::fabs(static_cast<double>(seen.stats[i]) - static_cast<double>(expected.stats[i])) <= sums * size);
  }
}

// What `rows` rows of 252 groups of four take in each block, with what the kernel has besides.
constexpr int64_t room(int64_t rows, int64_t blocks) { return 2592 + rows * ((252 + blocks - 1) / blocks) * 16; }
// A multiprocessor's memory for two such blocks, as one block may have it; the system keeps 1024 bytes for each.
constexpr int64_t twice(int64_t bytes) { return 2 * bytes + 1024; }

// One look, as on_chip and as auto, where `shared` bytes a block make a cluster of `plain` blocks for rows alone and of
// `pair` for those with a reference; 0: two looks.
void looks(const char *plugins, const Knobs &knobs, int major, int64_t shared, unsigned plain, unsigned pair) {
  knobs.set_device(0, major, 0);
  knobs.set_shared(shared);
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    FormEngine two(plugins, "two_looks"), automatic(plugins, "auto"), on_chip(plugins, "on_chip");
    EXPECT(two.engine.status == LETHE_OK && automatic.engine.status == LETHE_OK && on_chip.engine.status == LETHE_OK);
    const int64_t gradient = dtype == LETHE_BF16 ? 2 : 4;
    for (const bool references : {false, true}) {
      const Result expected = pass(&two.engine, dtype, references, false);
      const Result seen = pass(&automatic.engine, dtype, references, false);
      EXPECT(expected.status == LETHE_OK && seen.status == LETHE_OK);
      const std::vector<std::string> before = row_launches(expected.launches), now = row_launches(seen.launches);
      EXPECT(before.size() == 1 && before[0].compare(0, 10, "head_rows ") == 0);
      if (!references) {
        EXPECT(now.size() == 1 &&
               now[0] == (plain == 0 ? before[0] : launch_of("head_rows_onchip", kRows, 4 + gradient, plain)));
      } else if (plain + pair == 0) {
        EXPECT(now == before);
      } else {
        // Six of eight rows have no reference.
        EXPECT(now.size() == 2 && now[0] == launch_of("head_rows_onchip", kRows * 3 / 4, 4 + gradient, plain));
        EXPECT(now[1].compare(0, 10, pair == 0 ? "head_rows " : "head_rows_") == 0);
        EXPECT(now[1].substr(now[1].rfind(' ') + 1) == std::to_string(std::max(pair, 1u)));
      }
      // One block adds up in the order of two looks.
      if (plain <= 1 && (!references || pair <= 1)) {
        EXPECT(seen.rows == expected.rows && seen.stats == expected.stats);
      } else {
        alike(seen, expected, dtype);
      }
      const Result chunks = pass(&automatic.engine, dtype, references, true);
      EXPECT(chunks.rows == seen.rows && chunks.stats == seen.stats);
      const Result forced = pass(&on_chip.engine, dtype, references, false);
      if (plain == 0 || (references && pair == 0)) {
        EXPECT(forced.status == LETHE_UNSUPPORTED);
        EXPECT(std::strstr(lethe_error_trace(), references ? "1003 logits with its reference's does not fit"
                                                           : "1003 logits does not fit") != nullptr);
      } else {
        EXPECT(forced.status == LETHE_OK && forced.rows == seen.rows && forced.stats == seen.stats);
      }
    }
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  const char *plugins = argv[1];
  const Knobs knobs = knobs_of(plugins);
  if (knobs.set_device == nullptr || knobs.set_shared == nullptr) return 1;
  the_form_is_named(plugins);
  looks(plugins, knobs, 9, twice(room(2, 8)), 4, 8);
#if !defined(LETHE_SMALL)
  looks(plugins, knobs, 8, 99 << 10, 1, 1);
  looks(plugins, knobs, 8, room(1, 1), 1, 0);
  looks(plugins, knobs, 8, room(1, 1) - 1, 0, 0);
  looks(plugins, knobs, 9, 99 << 10, 1, 1);
  looks(plugins, knobs, 9, twice(room(1, 2)), 2, 4);
  looks(plugins, knobs, 9, twice(room(1, 8)), 8, 2);  // parts of two rows do not fit: the fewest blocks for one
  looks(plugins, knobs, 9, room(1, 4), 4, 0);
  looks(plugins, knobs, 9, room(1, 8), 8, 0);
  looks(plugins, knobs, 9, room(1, 8) - 1, 0, 0);
#endif
  std::printf("head_form: %d of %d checks failed\n", failures, checks);
  return failures == 0 ? 0 : 1;
}
