// Embedding, gather and scatter: exact, so compared as they are.
#include "op_check.h"

namespace lethe::test {
namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

#if defined(LETHE_SMALL)
constexpr bool kSmall = true;
#else
constexpr bool kSmall = false;
#endif

std::vector<int32_t> random_ids(Generator *g, int64_t n, int64_t bound) {
  std::vector<int32_t> ids(at(n));
  for (int32_t &id : ids) id = static_cast<int32_t>(g->below(bound));
  return ids;
}

void embedding_looks_up_and_adds(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, int64_t V, int64_t offset,
                                 float scale) {
  const std::string name = "embedding dtype=" + std::to_string(dtype) + " T=" + std::to_string(T) +
                           " d=" + std::to_string(d) + " offset=" + std::to_string(offset) +
                           " scale=" + std::to_string(scale);
  Generator g(static_cast<uint64_t>(T * 100 + d));
  const Numbers table = numbers(&g, V * d, dtype);
  const Numbers dout = numbers(&g, T * d, dtype);
  const Numbers dtable = numbers(&g, V * d, LETHE_F32);
  const std::vector<int32_t> ids = random_ids(&g, T, V);
  Operands operands(engine, 16 * (T + 2 * V) * d + 8192);
  const lethe_ref r_table = operands.add(table, dtype, offset);
  const lethe_ref r_ids = operands.add(ids, offset);
  const lethe_ref r_out = operands.add(Numbers(at(T * d), 7.0), dtype, offset);
  const lethe_ref r_dout = operands.add(dout, dtype, offset);
  const lethe_ref r_dtable = operands.add(dtable, LETHE_F32, offset);
  expect(operands.upload(), name);
  expect(lethe_embedding_forward(engine, dtype, T, d, V, scale, r_table, r_ids, r_out) == LETHE_OK, name);
  expect(lethe_embedding_backward(engine, dtype, T, d, V, scale, r_dout, r_ids, r_dtable) == LETHE_OK, name);
  Numbers out(at(T * d));
  std::vector<float> sums(dtable.begin(), dtable.end());
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t i = 0; i < d; ++i) {
      // Storage's numbers times an fp32 scale are exact in fp64: one rounding each.
      const auto widened = static_cast<double>(scale);
      out[at(t * d + i)] = decode(encode(widened * table[at(ids[at(t)] * d + i)], dtype), dtype);
      float &sum = sums[at(ids[at(t)] * d + i)];
      sum = static_cast<float>(sum + widened * dout[at(t * d + i)]);
    }
  }
  expect_equal(operands.read(r_out, T * d, dtype), out, name + " out");
  expect_equal(operands.read(r_dtable, V * d, LETHE_F32), Numbers(sums.begin(), sums.end()), name + " dtable");
  expect(operands.intact({r_out, r_dtable}), name + " writes nothing else");
}

void rows_move(lethe_engine *engine, int32_t dtype, int64_t n, int64_t width, int64_t src_pad, int64_t dst_pad,
               int64_t offset = 1) {
  const std::string name = "rows dtype=" + std::to_string(dtype) + " n=" + std::to_string(n) +
                           " width=" + std::to_string(width) + " pads=" + std::to_string(src_pad) + "," +
                           std::to_string(dst_pad) + " offset=" + std::to_string(offset);
  Generator g(static_cast<uint64_t>(n * 100 + width));
  const int64_t table_rows = n + 5;
  const int64_t wide = width + src_pad, narrow = width + dst_pad;
  const Numbers table = numbers(&g, table_rows * wide, dtype);
  const Numbers list = numbers(&g, n * narrow, dtype);
  const std::vector<int32_t> index = random_ids(&g, n, table_rows);
  std::vector<int32_t> places(at(table_rows));
  for (int64_t i = 0; i < table_rows; ++i) {
    const int64_t j = g.below(i + 1);
    places[at(i)] = places[at(j)];
    places[at(j)] = static_cast<int32_t>(i);
  }
  places.resize(at(n));
  Operands operands(engine, 8 * (table_rows + n) * (wide + narrow) + 8192);
  const lethe_ref r_table = operands.add(table, dtype, offset);
  const lethe_ref r_list = operands.add(list, dtype, 3 * offset);
  const lethe_ref r_index = operands.add(index);
  const lethe_ref r_places = operands.add(places);
  expect(operands.upload(), name);
  expect(lethe_gather_rows(engine, dtype, n, width, table_rows, r_table, wide, r_index, r_list, narrow) == LETHE_OK,
         name);
  Numbers want = list;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < width; ++k) want[at(i * narrow + k)] = table[at(index[at(i)] * wide + k)];
  }
  expect_equal(operands.read(r_list, n * narrow, dtype), want, name + " gather");
  expect(operands.intact({r_list}), name + " gather writes nothing else");

  expect(operands.upload(), name);
  expect(lethe_scatter_rows(engine, dtype, n, width, table_rows, r_list, narrow, r_places, r_table, wide) == LETHE_OK,
         name);
  want = table;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < width; ++k) want[at(places[at(i)] * wide + k)] = list[at(i * narrow + k)];
  }
  expect_equal(operands.read(r_table, table_rows * wide, dtype), want, name + " scatter");
  expect(operands.intact({r_table}), name + " scatter writes nothing else");
}

void bad_indices_are_named_and_nothing_is_written(lethe_engine *engine) {
  const Numbers table(12, 1.0), list(9, 2.0);
  const auto reports = [&](int status, int want, const char *what) {
    expect(settled(engine, status) == want && std::strstr(lethe_error_trace(), what) != nullptr, what);
  };
  for (const int32_t bad : {-1, 4, INT32_MAX, INT32_MIN}) {
    Operands operands(engine, 4096);
    const lethe_ref r_table = operands.add(table, LETHE_F32);
    const lethe_ref r_list = operands.add(list, LETHE_F32);
    const lethe_ref r_ids = operands.add(std::vector<int32_t>{0, 3, bad});
    expect(operands.upload(), "upload");
    const std::string ids = "ids[2] is " + std::to_string(bad) + ", outside [0, 4)";
    const std::string index = "index[2] is " + std::to_string(bad) + ", outside [0, 4)";
    reports(lethe_embedding_forward(engine, LETHE_F32, 3, 3, 4, 1.0f, r_table, r_ids, r_list), LETHE_OUT_OF_BOUNDS,
            ids.c_str());
    reports(lethe_embedding_backward(engine, LETHE_F32, 3, 3, 4, 1.0f, r_list, r_ids, r_table), LETHE_OUT_OF_BOUNDS,
            ids.c_str());
    reports(lethe_gather_rows(engine, LETHE_F32, 3, 3, 4, r_table, 3, r_ids, r_list, 3), LETHE_OUT_OF_BOUNDS,
            index.c_str());
    reports(lethe_scatter_rows(engine, LETHE_F32, 3, 3, 4, r_list, 3, r_ids, r_table, 3), LETHE_OUT_OF_BOUNDS,
            index.c_str());
    expect(operands.intact({}), "a bad index writes nothing");
  }
  Operands operands(engine, 4096);
  const lethe_ref r_table = operands.add(table, LETHE_F32);
  const lethe_ref r_list = operands.add(list, LETHE_F32);
  const lethe_ref r_ids = operands.add(std::vector<int32_t>{2, 1, 2});
  expect(operands.upload(), "upload");
  reports(lethe_scatter_rows(engine, LETHE_F32, 3, 3, 4, r_list, 3, r_ids, r_table, 3), LETHE_INVALID_ARGUMENT,
          "index[2] is 2 a second time");
  expect(operands.intact({}), "a repeated index writes nothing");
}

// One more than few has another way to see it.
void repeated_rows_are_named(lethe_engine *engine) {
  for (const int32_t n : {2, 33, 256, 257}) {
    std::vector<int32_t> index(at(n));
    for (int32_t i = 0; i < n; ++i) index[at(i)] = n - 1 - i;
    index.back() = n - 1;
    Operands operands(engine, 32 * n + 4096);
    const lethe_ref r_table = operands.add(Numbers(at(n), 1.0), LETHE_F32);
    const lethe_ref r_list = operands.add(Numbers(at(n), 2.0), LETHE_F32);
    const lethe_ref r_index = operands.add(index);
    expect(operands.upload(), "upload");
    const std::string text = "index[" + std::to_string(n - 1) + "] is " + std::to_string(n - 1) + " a second time";
    const int status = settled(engine, lethe_scatter_rows(engine, LETHE_F32, n, 1, n, r_list, 1, r_index, r_table, 1));
    expect(status == LETHE_INVALID_ARGUMENT && std::strstr(lethe_error_trace(), text.c_str()) != nullptr, text);
    expect(operands.intact({}), text + ": changes nothing");
  }
}

// Among more indices than one look of a block's threads: the first that is at fault, and the last.
void faults_far_from_the_start_are_named(lethe_engine *engine) {
  constexpr int64_t kRows = 3000;
  const Numbers table(at(kRows), 1.0), list(at(kRows), 2.0);
  struct Fault {
    int64_t where;
    int32_t index;
    int status;
    const char *text;
  };
  const Fault faults[] = {
      {kRows - 1, kRows, LETHE_OUT_OF_BOUNDS, "index[2999] is 3000, outside [0, 3000)"},
      {kRows - 1, 0, LETHE_INVALID_ARGUMENT, "index[2999] is 0 a second time"},
      {1500, 2900, LETHE_INVALID_ARGUMENT, "index[2900] is 2900 a second time"},
  };
  for (const Fault &fault : faults) {
    std::vector<int32_t> index(at(kRows));
    for (int64_t i = 0; i < kRows; ++i) index[at(i)] = static_cast<int32_t>(i);
    index[at(fault.where)] = fault.index;
    // Another behind it, which is not the first.
    if (fault.where < kRows - 1) index.back() = 7;
    Operands operands(engine, 16 * kRows + 4096);
    const lethe_ref r_table = operands.add(table, LETHE_F32), r_list = operands.add(list, LETHE_F32);
    const lethe_ref r_index = operands.add(index);
    expect(operands.upload(), "upload");
    const int status =
        settled(engine, lethe_scatter_rows(engine, LETHE_F32, kRows, 1, kRows, r_list, 1, r_index, r_table, 1));
    expect(status == fault.status && std::strstr(lethe_error_trace(), fault.text) != nullptr, fault.text);
    expect(operands.intact({}), std::string(fault.text) + " changes nothing");
    // The next call is as if nothing had been.
    expect(settled(engine, lethe_gather_rows(engine, LETHE_F32, kRows - 1, 1, kRows, r_table, 1, r_index, r_list, 1)) ==
                   LETHE_OK &&
               operands.read(r_list, 1, LETHE_F32)[0] == 1.0,
           std::string(fault.text) + " and goes on");
  }
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("rows_test", argc, argv, [](lethe_engine *engine, const char *, const char *) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const int64_t T : {0, 1, 2, 70}) {
        for (const int64_t width : {1, 16, 37, 64}) {
          for (const float scale : {1.0f, 22.627417f}) {
            embedding_looks_up_and_adds(engine, dtype, T, width, 11, T % 3, scale);
          }
          rows_move(engine, dtype, T, width, T % 3, width % 5);
        }
      }
    }
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      // One id all the time, few of them, more ids than one digit of a sort has, and more than two; more tokens than a
      // tile has.
      embedding_looks_up_and_adds(engine, dtype, 333, 24, 1, 0, 1.5f);
      embedding_looks_up_and_adds(engine, dtype, 1500, 5, 3, 1, 0.37f);
      embedding_looks_up_and_adds(engine, dtype, 2100, 3, 700, 0, 0.37f);
      embedding_looks_up_and_adds(engine, dtype, 2, 4096 + 5, 3, 1, 1.0f);
      rows_move(engine, dtype, 300, 64, 8, 16, 0);
      rows_move(engine, dtype, 300, 37, 0, 0);
      rows_move(engine, dtype, 2, 4096 + 5, 3, 0);
      if (kSmall) continue;
      embedding_looks_up_and_adds(engine, dtype, 1100, 1, (1 << 18) + 5, 0, 2.0f);
      embedding_looks_up_and_adds(engine, dtype, 66000, 1, 5000, 0, 0.37f);
      embedding_looks_up_and_adds(engine, dtype, 2, 16384 + 8, 3, 0, 0.37f);
      rows_move(engine, dtype, 2, 16384 + 8, 8, 0, 0);
    }
    bad_indices_are_named_and_nothing_is_written(engine);
    repeated_rows_are_named(engine);
    faults_far_from_the_start_are_named(engine);
  });
}
