// A decoder of one block with adapters on all its linears, op by op through lethe.h: what a training step does between
// the hidden states at the head rows and the updated adapters, without a JVM. chain_test.cpp compares backends with it.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "op_check.h"

namespace lethe::test {

struct BlockShape {
  int64_t T, d, heads, kv_heads, head_dim, f, V, rank;
  int64_t kv() const { return kv_heads * head_dim; }
  int64_t q() const { return heads * head_dim; }
  int64_t qkv() const { return q() + 2 * kv(); }
};

// The sequences of one packed batch, each with the loss that looks at it.
enum class Role { kMaximumEntropy, kNpo, kAnswer, kRefusal };
struct BlockSequence {
  Role role;
  int64_t tokens;
};

// One engine's copy of the model, the batch and all that a step keeps.
class OneBlock {
 public:
  OneBlock(lethe_engine *engine, int32_t dtype, const BlockShape &shape, const std::vector<BlockSequence> &batch)
      : engine_(engine), dtype_(dtype), s_(shape), batch_(batch) {
    make_rows();
    make_weights();
    make_room();
  }
  ~OneBlock() {
    for (const lethe_linear linear : {qkv_, o_, gate_up_, down_}) lethe_linear_close(engine_, linear);
    for (const lethe_ref buffer : buffers_) lethe_buffer_free(engine_, buffer);
  }
  OneBlock(const OneBlock &) = delete;
  OneBlock &operator=(const OneBlock &) = delete;

  int64_t rows() const { return static_cast<int64_t>(labels_.size()); }
  int64_t parameters() const { return parameters_; }

  void forward() {
    norm(s_.T, x0_, w1_, n1_, rstd1_);
    ok(lethe_linear_forward(engine_, qkv_, s_.T, s_.T, n1_, 0, qkv_out_, 0, u_qkv_), "qkv");
    rotate(qkv_out_, 0);
    const lethe_ref k = at(qkv_out_, s_.q()), v = at(qkv_out_, s_.q() + s_.kv());
    ok(lethe_attention_forward(engine_, dtype_, s_.heads, s_.kv_heads, s_.head_dim, scale(), 0, 0, segments(), table_,
                               s_.T, qkv_out_, s_.qkv(), s_.T, k, s_.qkv(), v, s_.qkv(), att_, lse_),
       "attention");
    ok(lethe_linear_forward(engine_, o_, s_.T, s_.T, att_, x0_, m_, 0, u_o_), "o");
    norm(s_.T, m_, w2_, n2_, rstd2_);
    ok(lethe_linear_forward(engine_, gate_up_, s_.T, s_.T, n2_, 0, gu_, 0, u_gu_), "gate_up");
    ok(lethe_gated_forward(engine_, dtype_, LETHE_ACTIVATION_SILU, s_.T, s_.f, gu_, ff_), "gated");
    ok(lethe_linear_forward(engine_, down_, s_.T, s_.T, ff_, m_, x1_, 0, u_down_), "down");
    ok(lethe_gather_rows(engine_, dtype_, rows(), s_.d, s_.T, x1_, s_.d, sources_, hidden_, s_.d), "gather");
    norm(rows(), hidden_, w3_, normed_, rstd3_);
  }

  // From the hidden states at the head rows to the updated adapters.
  double chain() {
    head();
    const double loss = answer();
    update();
    return loss;
  }

  void head() {
    ok(lethe_head_forward(engine_, dtype_, rows(), rows(), s_.d, s_.V, 0, 0, normed_, head_, 0, 0, mean_, records_, 0,
                          stats_, dh_rows_, workspace_, workspace_bytes_),
       "head");
  }

  // What the host does of it: the statistics down, the losses, the coefficients up.
  double answer() {
    std::vector<float> stats(static_cast<size_t>(rows() * LETHE_STATISTICS));
    ok(lethe_read(engine_, stats_, stats.data(), static_cast<int64_t>(stats.size() * 4)), "the statistics");
    std::vector<float> coefficients;
    const double loss = method(stats, &coefficients);
    ok(lethe_write(engine_, coefficients_, coefficients.data(), rows() * 4), "coefficients");
    return loss;
  }

  void update() {
    ok(lethe_head_norm_backward(engine_, dtype_, LETHE_NORM_RMS, rows(), rows(), s_.d, 0, records_, coefficients_,
                                dh_rows_, hidden_, w3_, 0, rstd3_, dhidden_, 0, 0),
       "head norm");
    backward();
    ok(lethe_gradient_norm(engine_, parameters_, gradients_, 1.0f, state_), "gradient norm");
    // An eps of the gradients' size: the movement is smooth in them, also where they are near 0.
    ok(lethe_adamw(engine_, dtype_, parameters_, 0, master_, first_, second_, gradients_, adapters_, 1e-2f, 0.9f,
                   0.999f, 1e-3f, 0.0f, state_),
       "adamw");
  }

  // Other hidden states in front of the block.
  void input(uint64_t seed) { ok(lethe_random_normal(engine_, dtype_, s_.T * s_.d, seed, 0, 1.0f, x0_), "input"); }
  // The table of segments anew; a wrong one is found by the attention.
  void segments(const std::vector<int32_t> &table) {
    ok(lethe_write(engine_, table_, table.data(), static_cast<int64_t>(table.size() * 4)), "segments");
  }

  Numbers gradients() { return read(gradients_, parameters_); }
  Numbers masters() { return read(master_, parameters_); }

 private:
  int64_t bytes() const { return element_bytes(dtype_); }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(s_.head_dim)); }
  int64_t segments() const { return static_cast<int64_t>(batch_.size()); }
  lethe_ref at(lethe_ref ref, int64_t elements) const { return ref + static_cast<lethe_ref>(elements * bytes()); }
  void ok(int status, const char *what) { expect(status == LETHE_OK, std::string(what) + ": " + lethe_error_trace()); }

  lethe_ref room(int64_t count, int64_t each) {
    lethe_ref buffer = 0;
    ok(lethe_buffer_alloc(engine_, count * each, &buffer), "memory");
    buffers_.push_back(buffer);
    return buffer;
  }
  template <class T>
  lethe_ref put(const std::vector<T> &values) {
    const lethe_ref buffer = room(static_cast<int64_t>(values.size()), sizeof(T));
    ok(lethe_write(engine_, buffer, values.data(), static_cast<int64_t>(values.size() * sizeof(T))), "write");
    return buffer;
  }
  lethe_ref storage(int64_t n) { return room(n, bytes()); }
  lethe_ref floats(int64_t n) { return room(n, 4); }
  // The same numbers on every engine.
  lethe_ref random(int64_t n, float std) {
    const lethe_ref buffer = storage(n);
    ok(lethe_random_normal(engine_, dtype_, n, 7, drawn_, std, buffer), "random");
    drawn_ += (n + 3) / 4 * 4;
    return buffer;
  }
  Numbers read(lethe_ref ref, int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    ok(lethe_read(engine_, ref, values.data(), 4 * n), "read");
    return Numbers(values.begin(), values.end());
  }

  void make_rows() {
    std::vector<int32_t> table, positions, sources, records;
    Generator generator(3);
    int32_t first = 0;
    for (size_t b = 0; b < batch_.size(); ++b) {
      const auto n = static_cast<int32_t>(batch_[b].tokens);
      table.insert(table.end(), {first, n, first, n, 0, 0});
      for (int32_t t = 0; t < n; ++t) positions.push_back(t);
      // The prompt's two tokens are no rows, nor has the last token a next one.
      for (int32_t t = 2; t < n - 1; ++t) {
        const auto label = static_cast<int32_t>(generator.below(s_.V));
        const int32_t kind = batch_[b].role == Role::kMaximumEntropy ? LETHE_ROW_UNIFORM_KL : LETHE_ROW_NLL;
        records.insert(records.end(), {static_cast<int32_t>(sources.size()), label, kind, -1, -1});
        sources.push_back(first + t);
        labels_.push_back(label);
        sequence_of_.push_back(b);
      }
      first += n;
    }
    table_ = put(table);
    positions_ = put(positions);
    sources_ = put(sources);
    records_ = put(records);
    const int64_t half = s_.head_dim / 2, P = s_.T;
    std::vector<float> cosines, sines;
    for (int64_t p = 0; p < P; ++p) {
      for (int64_t j = 0; j < half; ++j) {
        const double angle =
            static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half));
        cosines.push_back(static_cast<float>(std::cos(angle)));
        sines.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    cos_ = put(cosines);
    sin_ = put(sines);
  }

  struct Part {
    lethe_linear linear;
    int64_t first, out, in;
  };

  // A linear with so many adapters, its weight with the room that the engine asks for: none, or LETHE_LORA_FORM says
  // so.
  lethe_linear linear(int64_t out, int64_t in, int64_t adapters) {
    lethe_linear made = 0;
    const lethe_ref w = random(out * in, 1.0f / std::sqrt(static_cast<float>(in)));
    int64_t stride = 0, spare_rows = 0;
    ok(lethe_linear_spare(engine_, dtype_, out, in, adapters * s_.rank, &stride, &spare_rows), "spare");
    lethe_ref placed = w;
    if (stride != in || spare_rows != 0) {
      std::vector<int32_t> rows;
      for (int64_t row = 0; row < out; ++row) rows.push_back(static_cast<int32_t>(row));
      placed = storage((out + spare_rows) * stride);
      ok(lethe_gather_rows(engine_, dtype_, out, in, out, w, in, put(rows), placed, stride), "gather");
    }
    ok(lethe_linear_create_strided(engine_, dtype_, out, in, stride, spare_rows, placed, 0, &made), "linear");
    return made;
  }

  void make_weights() {
    w1_ = random(s_.d, 0.5f);
    w2_ = random(s_.d, 0.5f);
    w3_ = random(s_.d, 0.5f);
    qkv_ = linear(s_.qkv(), s_.d, 3);
    o_ = linear(s_.d, s_.q(), 1);
    gate_up_ = linear(2 * s_.f, s_.d, 2);
    down_ = linear(s_.d, s_.f, 1);
    head_ = random(s_.V * s_.d, 0.3f);
    x0_ = random(s_.T * s_.d, 1.0f);
    const std::vector<Part> parts = {
        {qkv_, 0, s_.q(), s_.d}, {qkv_, s_.q(), s_.kv(), s_.d}, {qkv_, s_.q() + s_.kv(), s_.kv(), s_.d},
        {o_, 0, s_.d, s_.q()},   {gate_up_, 0, s_.f, s_.d},     {gate_up_, s_.f, s_.f, s_.d},
        {down_, 0, s_.d, s_.f}};
    for (const Part &p : parts) parameters_ += s_.rank * (p.in + p.out);
    adapters_ = random(parameters_, 0.1f);
    master_ = floats(parameters_);
    ok(lethe_convert(engine_, parameters_, dtype_, adapters_, LETHE_F32, master_), "master");
    first_ = floats(parameters_);
    second_ = floats(parameters_);
    gradients_ = floats(parameters_);
    state_ = floats(LETHE_UPDATE_STATE);
    // As a model lays them out: the A of a linear's parts side by side, then their B.
    int64_t used = 0;
    for (size_t i = 0; i < parts.size();) {
      size_t end = i;
      int64_t a = used;
      for (; end < parts.size() && parts[end].linear == parts[i].linear; ++end) used += s_.rank * parts[end].in;
      for (; i < end; ++i) {
        const Part &p = parts[i];
        ok(lethe_linear_adapter(engine_, p.linear, p.first, p.out, s_.rank, 2.0f, 0.0f, 0, at(adapters_, a),
                                at(adapters_, used), gradients_ + static_cast<lethe_ref>(4 * a),
                                gradients_ + static_cast<lethe_ref>(4 * used)),
           "adapter");
        a += s_.rank * p.in;
        used += s_.rank * p.out;
      }
    }
    mean_ = floats(s_.d);
    ok(lethe_head_mean(engine_, dtype_, s_.d, s_.V, head_, mean_), "head mean");
  }

  void make_room() {
    const int64_t T = s_.T, n = rows();
    for (lethe_ref *x : {&n1_, &m_, &n2_, &x1_, &dn_, &dx1_}) *x = storage(T * s_.d);
    for (lethe_ref *x : {&hidden_, &normed_, &dh_rows_, &dhidden_}) *x = storage(n * s_.d);
    for (lethe_ref *x : {&qkv_out_, &dqkv_}) *x = storage(T * s_.qkv());
    for (lethe_ref *x : {&att_, &datt_}) *x = storage(T * s_.q());
    for (lethe_ref *x : {&gu_, &dgu_}) *x = storage(T * 2 * s_.f);
    for (lethe_ref *x : {&ff_, &dff_}) *x = storage(T * s_.f);
    for (lethe_ref *x : {&u_qkv_, &u_o_, &u_gu_, &u_down_, &du_}) *x = storage(T * 3 * s_.rank);
    for (lethe_ref *x : {&rstd1_, &rstd2_, &rstd3_, &coefficients_}) *x = floats(T);
    lse_ = floats(T * s_.heads);
    stats_ = floats(n * LETHE_STATISTICS);
    int64_t least = 0;
    ok(lethe_head_workspace(engine_, dtype_, n, s_.d, s_.V, &least, &workspace_bytes_), "workspace");
    workspace_ = room(workspace_bytes_, 1);
  }

  void norm(int64_t T, lethe_ref x, lethe_ref w, lethe_ref y, lethe_ref rstd) {
    ok(lethe_norm_forward(engine_, dtype_, LETHE_NORM_RMS, T, 1, s_.d, 1e-5f, 0, x, s_.d, w, 0, 0, y, s_.d, 0, rstd),
       "norm");
  }
  // dm += the gradient through the norm of m.
  void norm_backward(lethe_ref dy, lethe_ref x, lethe_ref w, lethe_ref rstd, lethe_ref dx) {
    ok(lethe_norm_backward(engine_, dtype_, LETHE_NORM_RMS, s_.T, 1, s_.d, 0, dy, s_.d, x, s_.d, w, 0, rstd, dx, s_.d,
                           1, 0, 0),
       "norm backward");
  }
  void rotate(lethe_ref qkv, int32_t inverse) {
    ok(lethe_rotary(engine_, dtype_, s_.T, s_.heads + s_.kv_heads, s_.head_dim, s_.head_dim, qkv, s_.qkv(), positions_,
                    s_.T, cos_, sin_, inverse),
       "rotary");
  }

  void backward() {
    ok(lethe_zero(engine_, gradients_, 4 * parameters_), "zero gradients");
    ok(lethe_zero(engine_, dx1_, s_.T * s_.d * bytes()), "zero");
    ok(lethe_scatter_rows(engine_, dtype_, rows(), s_.d, s_.T, dhidden_, s_.d, sources_, dx1_, s_.d), "scatter");
    ok(lethe_linear_backward(engine_, down_, s_.T, ff_, u_down_, dx1_, 0, du_, dff_), "down backward");
    ok(lethe_gated_backward(engine_, dtype_, LETHE_ACTIVATION_SILU, s_.T, s_.f, gu_, dff_, dgu_), "gated backward");
    ok(lethe_linear_backward(engine_, gate_up_, s_.T, n2_, u_gu_, dgu_, 0, du_, dn_), "gate_up backward");
    norm_backward(dn_, m_, w2_, rstd2_, dx1_);
    ok(lethe_linear_backward(engine_, o_, s_.T, att_, u_o_, dx1_, 0, du_, datt_), "o backward");
    const int64_t q = s_.q(), kv = s_.kv();
    ok(lethe_attention_backward(engine_, dtype_, s_.heads, s_.kv_heads, s_.head_dim, scale(), 0, 0, segments(), table_,
                                s_.T, qkv_out_, s_.qkv(), s_.T, at(qkv_out_, q), s_.qkv(), at(qkv_out_, q + kv),
                                s_.qkv(), att_, lse_, datt_, dqkv_, at(dqkv_, q), at(dqkv_, q + kv)),
       "attention backward");
    rotate(dqkv_, 1);
    ok(lethe_linear_backward(engine_, qkv_, s_.T, n1_, u_qkv_, dqkv_, 0, du_, 0), "qkv backward");
  }

  // ME, NPO and AP on their sequences of one batch; gives each row's coefficient.
  double method(const std::vector<float> &stats, std::vector<float> *coefficients) const {
    constexpr double kBeta = 0.1, kReference = 9.0;
    std::vector<double> nll(batch_.size());
    double entropy_rows = 0, entropy = 0;
    for (size_t i = 0; i < labels_.size(); ++i) {
      const float *row = stats.data() + i * LETHE_STATISTICS;
      if (batch_[sequence_of_[i]].role == Role::kMaximumEntropy) {
        entropy_rows += 1;
        entropy += row[LETHE_STAT_LSE] - row[LETHE_STAT_MEAN] - std::log(static_cast<double>(s_.V));
      }
      const double margin = double{row[LETHE_STAT_LSE_OTHERS]} - row[LETHE_STAT_LABEL];
      nll[sequence_of_[i]] += margin > 0 ? margin + std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin));
    }
    const auto falling = [](double x) { return 1.0 / (1.0 + std::exp(x)); };
    double answer = 0, refusal = 0, loss = entropy_rows > 0 ? entropy / entropy_rows : 0;
    for (size_t b = 0; b < batch_.size(); ++b) {
      if (batch_[b].role == Role::kAnswer) answer += nll[b];
      if (batch_[b].role == Role::kRefusal) refusal += nll[b];
      if (batch_[b].role == Role::kNpo) loss += 2 / kBeta * std::log1p(std::exp(-kBeta * (nll[b] - kReference)));
    }
    const bool pairs = answer != 0 || refusal != 0;
    if (pairs) loss += 1 / kBeta * std::log1p(std::exp(-kBeta * (refusal - answer)));
    for (size_t i = 0; i < labels_.size(); ++i) {
      const size_t b = sequence_of_[i];
      const double c = batch_[b].role == Role::kMaximumEntropy ? 1 / entropy_rows
                       : batch_[b].role == Role::kNpo          ? -2 * falling(kBeta * (nll[b] - kReference))
                       : batch_[b].role == Role::kAnswer       ? falling(kBeta * (refusal - answer))
                                                               : -falling(kBeta * (refusal - answer));
      coefficients->push_back(static_cast<float>(c));
    }
    return loss;
  }

  lethe_engine *engine_;
  int32_t dtype_;
  BlockShape s_;
  std::vector<BlockSequence> batch_;
  std::vector<lethe_ref> buffers_;
  std::vector<int32_t> labels_;
  std::vector<size_t> sequence_of_;
  int64_t drawn_ = 0, parameters_ = 0, workspace_bytes_ = 0;
  lethe_linear qkv_ = 0, o_ = 0, gate_up_ = 0, down_ = 0;
  lethe_ref table_ = 0, positions_ = 0, sources_ = 0, records_ = 0, cos_ = 0, sin_ = 0;
  lethe_ref w1_ = 0, w2_ = 0, w3_ = 0, head_ = 0, mean_ = 0, x0_ = 0;
  lethe_ref adapters_ = 0, master_ = 0, first_ = 0, second_ = 0, gradients_ = 0, state_ = 0;
  lethe_ref n1_ = 0, m_ = 0, n2_ = 0, x1_ = 0, dn_ = 0, dx1_ = 0, hidden_ = 0, normed_ = 0, dh_rows_ = 0, dhidden_ = 0;
  lethe_ref qkv_out_ = 0, dqkv_ = 0, att_ = 0, datt_ = 0, gu_ = 0, dgu_ = 0, ff_ = 0, dff_ = 0;
  lethe_ref u_qkv_ = 0, u_o_ = 0, u_gu_ = 0, u_down_ = 0, du_ = 0;
  lethe_ref rstd1_ = 0, rstd2_ = 0, rstd3_ = 0, coefficients_ = 0, lse_ = 0, stats_ = 0, workspace_ = 0;
};

}  // namespace lethe::test
