// The linear layer with adapters against its fp64 twin, and the twin against the complex step.
#include <cstdlib>

#include "linear_check.h"

namespace lethe::test {
namespace {

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<Adapter> none;
  const std::vector<Adapter> one = {{0, 33, 8, 2.0}};
  const std::vector<Adapter> qkv = {{0, 16, 5, 2.0}, {16, 8, 8, 0.5}, {24, 9, 3, -1.5}};
  const std::vector<Adapter> dropped = {
      {0, 16, 5, 2.0, false, 0.5f, 1}, {16, 8, 8, 0.5, true, 0.1f, uint64_t{1} << 63}, {24, 9, 3, -1.5}};
  const std::vector<Adapter> crossing = {{0, 20, 4, 1.0}, {10, 23, 1, 1.0, true}, {32, 1, 17, 0.25}};
  int i = 0;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto &adapters : {none, one, qkv, crossing}) {
      for (const int64_t T : {0, 1, 2, 3, 7, 50}) {
        const auto residual = static_cast<Residual>(i % 3);
        all.push_back({dtype, T, T * (i % 4) / 3 > T ? T : T * (i % 4) / 3, 33, 37, residual, adapters, i % 2 == 0,
                       i % 5 != 0, i % 7 != 0, i % 3, i % 4 < 2});
        ++i;
      }
    }
    for (const int64_t T : {0, 1, 3, 50}) {
      for (const int64_t in : {37, 64, 200}) {
        const auto residual = static_cast<Residual>(i % 3);
        all.push_back({dtype, T, T - T / 3, 33, in, residual, dropped, i % 2 == 0, i % 5 != 0, i % 7 != 0, i % 3,
                       i % 4 < 2, i % 6 != 0});
        ++i;
      }
    }
    all.push_back({dtype,
                   514,
                   513,
                   17,
                   130,
                   Residual::kNone,
                   {{0, 17, 4, 2.0, false, 0.25f, 9}},
                   true,
                   true,
                   true,
                   0,
                   false,
                   true});
    all.push_back({dtype, 5, 4, 1, 1, Residual::kSeparate, {{0, 1, 1, 1.0}}, true, true, true, 0});
    all.push_back({dtype,
                   67,
                   40,
                   224,
                   96,
                   Residual::kInPlace,
                   {{0, 96, 8, 2.0}, {96, 64, 8, 2.0}, {160, 64, 8, 2.0}},
                   true,
                   true,
                   true,
                   0});
    all.push_back(
        {dtype, 67, 40, 224, 96, Residual::kSeparate, {{0, 96, 8, 2.0}, {96, 64, 8, 2.0}}, false, true, true, 1});
    all.push_back({dtype, 9, 6, 400, 33, Residual::kNone, {{5, 300, 16, 2.0}}, true, true, true, 3});
    all.push_back({dtype, 514, 513, 17, 19, Residual::kNone, {{0, 17, 4, 2.0}}, true, true, true, 0, true});
    // Gaps between adapters, in front of them and behind, over every residual; scales that differ in one block of A.
    for (const Residual residual : {Residual::kNone, Residual::kSeparate, Residual::kInPlace}) {
      all.push_back({dtype, 9, 7, 64, 48, residual, {{8, 16, 8, 2.0}, {40, 8, 8, 2.0}}, true, true, true, 0, true});
      all.push_back({dtype, 9, 9, 64, 48, residual, {{40, 24, 3, 2.0}, {0, 16, 5, 0.5}}, true, true, true, 1, true});
    }
    // Equal parts, which one batch takes: in equal steps of memory, and in unequal ones behind a frozen adapter.
    for (const bool stacked : {true, false}) {
      all.push_back(
          {dtype, 9, 7, 64, 48, Residual::kSeparate, {{0, 32, 8, 2.0}, {32, 32, 8, 2.0}}, stacked, false, true, 0});
      all.push_back({dtype,
                     9,
                     7,
                     70,
                     48,
                     Residual::kNone,
                     {{0, 16, 8, 2.0}, {16, 16, 8, 2.0, true}, {32, 16, 8, 2.0}, {48, 16, 8, 0.5}, {65, 5, 8, 0.5}},
                     stacked,
                     true,
                     true,
                     stacked ? 0 : 1});
    }
    // Sums that CUDA splits: over the inputs; over the outputs of one adapter, of two that lie together, of two that do
    // not.
    all.push_back({dtype, 5, 4, 9, 8192, Residual::kNone, {{0, 5, 4, 2.0}, {5, 4, 3, 2.0}}, true, false, true, 0});
    all.push_back(
        {dtype, 5, 4, 9, 9216, Residual::kNone, {{0, 9, 4, 2.0, false, 0.3f, 4}}, true, false, true, 1, false, true});
    all.push_back({dtype, 5, 5, 8200, 9, Residual::kNone, {{3, 8192, 4, 2.0}}, true, false, true, 0});
    for (const bool stacked : {true, false}) {
      all.push_back(
          {dtype, 4, 4, 16384, 7, Residual::kNone, {{0, 8192, 3, 2.0}, {8192, 8192, 3, 2.0}}, stacked, false, true, 0});
    }
    // More adapters than one pass over dx takes, and ranks, rows and columns that cross its tiles.
    std::vector<Adapter> many;
    for (int64_t n = 0; n < 18; ++n) many.push_back({n, 2, n == 4 ? 37 : 1, 0.5, n == 3, n % 3 == 1 ? 0.0f : 0.4f, 70});
    all.push_back({dtype, 35, 33, 20, 141, Residual::kNone, many, false, true, true, 0, false, true});
  }
  return all;
}

// ---- bits ----

void rows_do_not_depend_on_their_batch(lethe_engine *engine) {
  // CUDA promises it for row counts that share an algorithm: those up to 128 are the first.
  const int64_t T = stores_parts ? 100 : 300;
#if defined(LETHE_SMALL)
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{256, 128}, {512, 64}, {37, 53}};
#else
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1536, 512}, {512, 1344}, {768, 256}, {37, 53}, {64, 2304}};
#endif
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto &[out, in] : shapes) {
      const Case c{dtype, T,     T,    out, in,         Residual::kSeparate,   {{0, out, 8, 2.0, true, 0.3f, 5}},
                   true,  false, true, 0,   out == 512, in == 53 || out == 512};
      Layer layer(engine, c, make_data(c, 5));
      const Numbers all = layer.rows(0, T, T);
      for (const int64_t n : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{16}, int64_t{33}, T / 3, T - 1}) {
        for (const int64_t first : {int64_t{0}, (T - n) / 2, T - n}) {
          const Numbers some = layer.rows(first, n, n);
          Numbers same(all.begin() + first * out, all.begin() + (first + n) * out);
          same.insert(same.end(), all.begin() + T * out + first * in, all.begin() + T * out + (first + n) * in);
          expect_equal(some, same, name_of(c) + " rows " + std::to_string(first) + "+" + std::to_string(n));
        }
      }
      expect_equal(layer.rows(0, T, T), all, name_of(c) + " a second time");
    }
  }
}

// Known answers of Random123's reference implementation, and the twin's masks keep the share they should.
void philox_gives_its_known_answers() {
  const struct {
    uint32_t counter[4];
    uint64_t key;
    uint32_t words[4];
  } known[] = {
      {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       0x299f31d0a4093822,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto &k : known) {
    uint32_t words[4];
    philox(k.counter, k.key, words);
    expect(std::equal(words, words + 4, k.words), "Philox4x32-10");
  }
  const Adapter adapter = {0, 1, 1, 1.0, false, 0.1f, 3};
  Case c{};
  c.T = 50;
  c.in = 400;
  c.keyed = true;
  const Data d = make_data(c, 1);
  double share = 0;
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) share += kept(c, d, adapter, t, i) / 20000;
  }
  // Four standard deviations of a share of 20000.
  expect(std::fabs(share - 0.9) <= 4 * std::sqrt(0.09 / 20000), "the share that is kept");
}

// Without row keys an adapter with dropout is one without, to the bit.
void evaluation_drops_nothing(lethe_engine *engine) {
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    Case c{dtype, 21, 21, 40, 70, Residual::kNone, {{0, 40, 8, 2.0, false, 0.4f, 3}}, true, false, true, 0};
    const Data d = make_data(c, 7);
    Layer layer(engine, c, d);
    const Numbers without_keys = layer.rows(0, 21, 21);
    c.adapters[0].dropout = 0;
    c.keyed = true;
    Layer plain(engine, c, d);
    expect_equal(plain.rows(0, 21, 21), without_keys, name_of(c) + " evaluation drops nothing");
  }
}

void bad_dropout_is_refused(lethe_engine *engine) {
  const Case c{LETHE_F32, 2, 2, 4, 4, Residual::kNone, {{0, 4, 2, 1.0}}, true, false, true, 0};
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, make_data(c, 8), &operands);
  for (const float p : {-0.1f, 1.0f, std::nanf("")}) {
    expect(
        lethe_linear_adapter(engine, r.linear, 0, 4, 2, 1.0f, p, 0, r.a[0], r.b[0], 0, 0) == LETHE_INVALID_ARGUMENT &&
            std::strstr(lethe_error_trace(), "dropout must be in [0, 1)") != nullptr,
        "a bad dropout");
  }
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, "close");
}

void a_zero_b_changes_nothing(lethe_engine *engine, int64_t spare_columns) {
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto residual : {Residual::kNone, Residual::kSeparate, Residual::kInPlace}) {
      Case c{dtype, 70, 70, 211, 130, residual, {{0, 100, 8, 2.0}, {100, 111, 3, 2.0}}, true, false, false, 0};
      c.spare_columns = spare_columns;
      Data d = make_data(c, 6);
      for (Numbers &b : d.b) std::fill(b.begin(), b.end(), 0.0);
      Layer layer(engine, c, d);
      const Numbers base = layer.rows(0, 70, 0);
      expect_equal(layer.rows(0, 70, 70), base, name_of(c) + " B = 0");
      expect_equal(layer.rows(0, 70, 33), base, name_of(c) + " B = 0 in part");
      c.adapters.clear();
      d.b.clear();
      Layer plain(engine, c, d);
      expect_equal(plain.rows(0, 70, 70), base, name_of(c) + " no adapter");
    }
  }
}

// ---- weights with spare columns and rows ----

// The case on a frozen weight with room for its adapters: just so much, more, or none in a direction.
Case with_room(Case c, int variant) {
  c.trains = false;
  const int64_t R = c.total_rank();
  c.spare_columns = variant % 4 == 3 ? 0 : variant % 2 == 0 ? (R + 15) / 16 * 16 : R + variant % 4;
  c.spare_rows = variant % 4 == 1 ? 0 : variant % 3 == 0 ? R : R + 5;
  return c;
}

int count(const std::string &text, const std::string &part) {
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

// How many products and kernels a call takes.
template <class Call>
std::pair<int, int> launched(lethe_engine *engine, Call &&call) {
  expect(lethe_record_launches(engine, 1) == LETHE_OK, "record");
  expect(call() == LETHE_OK, "the call");
  int64_t needed = 0;
  expect(lethe_launches(engine, nullptr, 0, &needed) == LETHE_OK, "launches");
  std::string text(at(needed), '\0');
  expect(lethe_launches(engine, text.data(), needed, &needed) == LETHE_OK, "launches");
  expect(lethe_record_launches(engine, 0) == LETHE_OK, "record no more");
  return {count(text, R"("gemm")"), count(text, R"("kernel")")};
}

// Adapters that a model lays out side by side: however many, u and du are one product, and with room so are y and dx.
void few_products(lethe_engine *engine, bool room) {
  Case c{LETHE_BF16, 9, 9, 64, 48, Residual::kSeparate, {{0, 32, 8, 2.0}, {32, 32, 8, 2.0}}, true, false, true, 0};
  if (room) c = with_room(c, 0);
  const Data d = make_data(c, 4);
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, d, &operands);
  const auto forward = launched(
      engine, [&] { return lethe_linear_forward(engine, r.linear, c.T, c.adapted, r.x, r.residual, r.y, 0, r.u); });
  expect(forward == (room ? std::make_pair(2, 1) : std::make_pair(3, 0)), name_of(c) + " forward's launches");
  const auto backward =
      launched(engine, [&] { return lethe_linear_backward(engine, r.linear, c.T, r.x, r.u, r.dy, 0, r.du, r.dx); });
  expect(backward == (room ? std::make_pair(4, 1) : std::make_pair(5, 0)), name_of(c) + " backward's launches");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, "close");
}

// Linears that share a weight and its room, in turn: neither sees what the other left there.
void room_is_shared(lethe_engine *engine) {
  const Case c = with_room({LETHE_BF16, 9, 6, 64, 48, Residual::kNone, {{0, 64, 7, 2.0}}, true, false, true, 0}, 0);
  const Data d = make_data(c, 12);
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, d, &operands);
  lethe_linear base = 0;
  expect(lethe_linear_create_strided(engine, c.dtype, c.out, c.in, c.in + c.spare_columns, c.spare_rows, r.w, 0,
                                     &base) == LETHE_OK,
         "a second linear");
  const auto outputs = [&](lethe_linear linear, int64_t adapted) {
    expect(lethe_linear_forward(engine, linear, c.T, adapted, r.x, 0, r.y, 0, r.u) == LETHE_OK, "forward");
    return operands.read(r.y, c.T * c.out, c.dtype);
  };
  const Numbers without = outputs(base, 0), with = outputs(r.linear, c.adapted);
  expect(with != without, "adapters act");
  expect_equal(outputs(base, 0), without, "the base after adapters");
  expect_equal(outputs(r.linear, 0), without, "no adapted row");
  expect_equal(outputs(r.linear, c.adapted), with, "adapters after the base");
  for (const lethe_linear linear : {base, r.linear}) expect(lethe_linear_close(engine, linear) == LETHE_OK, "close");
}

void room_that_is_too_small_is_refused(lethe_engine *engine, bool has_use) {
  lethe_linear linear = 0;
  Operands operands(engine, 1 << 14);
  const lethe_ref w = operands.add(Numbers(24 * 20), LETHE_F32), a = operands.add(Numbers(20 * 16), LETHE_F32);
  int64_t stride = 0, rows = 0;
  expect(lethe_linear_spare(engine, LETHE_F32, 24, 16, 8, &stride, &rows) == LETHE_OK && stride == 16 && rows == 0,
         "no room is asked for");
  expect(lethe_linear_create_strided(engine, LETHE_F32, 20, 16, 15, 4, w, 0, &linear) == LETHE_INVALID_ARGUMENT,
         "a stride below the width");
  expect(lethe_linear_create_strided(engine, LETHE_F32, 300, 16, 20, 4, w, 0, &linear) == LETHE_OUT_OF_BOUNDS,
         "a weight that leaves its buffer");
  expect(lethe_linear_create_strided(engine, LETHE_F32, 20, 16, 16, 0, w, 0, &linear) == LETHE_OK, "packed");
  expect(lethe_linear_close(engine, linear) == LETHE_OK, "close");
  const int status = lethe_linear_create_strided(engine, LETHE_F32, 20, 16, 20, 4, w, 0, &linear);
  if (!has_use) {
    expect(status == LETHE_UNSUPPORTED && std::strstr(lethe_error_trace(), "create the linear packed") != nullptr,
           "no use for room");
    return;
  }
  expect(status == LETHE_OK, "room for four");
  expect(lethe_linear_adapter(engine, linear, 0, 20, 3, 1, 0, 0, a, a, 0, 0) == LETHE_OK, "three fit");
  expect(lethe_linear_adapter(engine, linear, 0, 20, 2, 1, 0, 0, a, a, 0, 0) == LETHE_OUT_OF_BOUNDS &&
             std::strstr(lethe_error_trace(), "4 spare columns") != nullptr,
         "five do not");
  // Seventeen of rank 1.
  expect(lethe_linear_close(engine, linear) == LETHE_OK, "close");
  expect(lethe_linear_create_strided(engine, LETHE_F32, 4, 16, 36, 0, w, 0, &linear) == LETHE_OK, "room for twenty");
  for (int i = 0; i < 17; ++i) {
    expect(lethe_linear_adapter(engine, linear, 0, 4, 1, 1, 0, 0, a, a, 0, 0) == LETHE_OK, "one of seventeen");
  }
  expect(lethe_linear_forward(engine, linear, 1, 1, a, 0, a + 256, 0, a + 512) == LETHE_UNSUPPORTED &&
             std::strstr(lethe_error_trace(), "17 adapters") != nullptr,
         "too many adapters");
  expect(lethe_linear_close(engine, linear) == LETHE_OK, "close");
}

// LETHE_LORA_FORM decides what linear_spare asks for; the description says which it is.
void the_form_is_named(const char *backend, const char *plugins) {
  const auto described = [&](const char *form) {
    setenv("LETHE_LORA_FORM", form, 1);
    lethe_engine *engine = nullptr;
    const int status = lethe_engine_open(backend, plugins, 1, &engine);
    unsetenv("LETHE_LORA_FORM");
    std::string said(1024, '\0');
    if (engine == nullptr) return std::make_pair(status, std::string(lethe_error_trace()));
    lethe_engine_describe(engine, said.data(), 1024);
    const struct { int64_t out, in, stride, rows; } shapes[] = {{64, 40, 72, 0}, {40, 64, 64, 32}, {40, 40, 40, 0}};
    for (const auto &s : shapes) {
      int64_t stride = 0, rows = 0;
      expect(lethe_linear_spare(engine, LETHE_BF16, s.out, s.in, 24, &stride, &rows) == LETHE_OK, "spare");
      const bool packed = std::strcmp(form, "augmented") != 0;
      expect(stride == (packed ? s.in : s.stride) && rows == (packed ? 0 : s.rows), "the room that is asked for");
    }
    expect(lethe_engine_close(engine) == LETHE_OK, "close");
    return std::make_pair(status, said);
  };
  expect(described("augmented").second.find(R"("lora_form":"augmented")") != std::string::npos, "augmented");
  for (const char *form : {"", "plain"}) {
    expect(described(form).second.find(R"("lora_form":"plain")") != std::string::npos, "plain");
  }
  const auto unknown = described("fused");
  expect(unknown.first == LETHE_INVALID_ARGUMENT &&
             unknown.second.find("LETHE_LORA_FORM=fused; give plain or augmented") != std::string::npos,
         "an unknown form");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("linear_test", argc, argv, [](lethe_engine *engine, const char *plugins, const char *backend) {
    stores_parts = std::strncmp(backend, "cuda", 4) == 0;
    twin_matches_the_complex_step(false);
    twin_matches_the_complex_step(true);
    philox_gives_its_known_answers();
    evaluation_drops_nothing(engine);
    bad_dropout_is_refused(engine);
    uint64_t seed = 0;
    for (const Case &c : cases()) {
      forward_matches(engine, c, ++seed);
      backward_matches(engine, c, ++seed);
    }
    a_zero_b_changes_nothing(engine, 0);
    room_that_is_too_small_is_refused(engine, stores_parts);
    if (stores_parts) {
      a_zero_b_changes_nothing(engine, 16);
      int variant = 0;
      for (const Case &c : cases()) {
        if (c.adapters.size() > 16) continue;
        forward_matches(engine, with_room(c, ++variant), ++seed);
        backward_matches(engine, with_room(c, variant), ++seed);
      }
      few_products(engine, false);
      few_products(engine, true);
      room_is_shared(engine);
      the_form_is_named(backend, plugins);
    }
    for (const int32_t threads : {1, 2, 3}) {
      if (stores_parts && threads > 1) break;  // of the host, which it does not use
      lethe_engine *other = nullptr;
      expect(lethe_engine_open(backend, plugins, threads, &other) == LETHE_OK, "engine");
      if (other == nullptr) continue;
      rows_do_not_depend_on_their_batch(other);
      for (const Case &c : cases()) {
        if (c.keyed && c.T == 50) backward_matches(other, c, ++seed);
      }
      expect(lethe_engine_close(other) == LETHE_OK, "close");
    }
  });
}
