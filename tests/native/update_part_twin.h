// AdamW part by part, written again, one number at a time and each fp32 rounding in its place: backends give its bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "lethe.h"
#include "philox_twin.h"

namespace lethe::test {

struct Hyper {
  float lr, beta1, beta2, eps, decay;
};

// Signed, then unsigned: bitsandbytes' create_dynamic_map, up to the last bit of its values.
inline std::vector<float> dynamic_maps() {
  std::vector<float> maps;
  for (const bool is_signed : {true, false}) {
    std::vector<double> map = {0.0, 1.0};
    for (int decade = 0; decade < 7; ++decade) {
      const int steps = is_signed ? 1 << decade : 2 << decade;
      for (int i = 0; i < steps; ++i) {
        const double mean = (0.1 + 0.9 * (i + 0.5) / steps) * std::pow(10.0, decade - 6);
        map.push_back(mean);
        if (is_signed) map.push_back(-mean);
      }
    }
    std::sort(map.begin(), map.end());
    for (const double x : map) maps.push_back(static_cast<float>(x));
  }
  return maps;
}

// Maps of equal steps: whatever ascends is a map.
inline std::vector<float> linear_maps() {
  std::vector<float> maps;
  maps.reserve(512);
  for (int i = 0; i < 256; ++i) maps.push_back(static_cast<float>(i - 127) / 128);
  for (int i = 0; i < 256; ++i) maps.push_back(static_cast<float>(i) / 255);
  return maps;
}

// What a part has: a master or none, fp32 moments or codes with scales.
struct PartTwin {
  bool master, codes;
  std::vector<float> p, m, v, m_scale, v_scale;  // p: the master, or what storage holds
  std::vector<uint8_t> m_codes, v_codes;
  const std::vector<float> *maps;

  static int code(const float *map, float x) {
    int below = 0;
    for (int i = 0; i + 1 < 256; ++i) below += x > (map[i] + map[i + 1]) * 0.5f ? 1 : 0;
    return below;
  }

  void decode() {
    if (!codes) return;
    for (size_t i = 0; i < p.size(); ++i) {
      m[i] = (*maps)[m_codes[i]] * m_scale[i / LETHE_MOMENT_BLOCK];
      v[i] = (*maps)[256u + v_codes[i]] * v_scale[i / LETHE_MOMENT_BLOCK];
    }
  }
  void encode() {
    if (!codes) return;
    for (size_t begin = 0; begin < p.size(); begin += LETHE_MOMENT_BLOCK) {
      const size_t end = std::min(p.size(), begin + LETHE_MOMENT_BLOCK), block = begin / LETHE_MOMENT_BLOCK;
      float largest_m = 0, largest_v = 0;
      for (size_t i = begin; i < end; ++i) largest_m = std::max(largest_m, std::fabs(m[i]));
      for (size_t i = begin; i < end; ++i) largest_v = std::max(largest_v, v[i]);
      m_scale[block] = largest_m;
      v_scale[block] = largest_v;
      for (size_t i = begin; i < end; ++i) {
        m_codes[i] = static_cast<uint8_t>(code(maps->data(), largest_m > 0 ? m[i] / largest_m : 0.0f));
        const int c = code(maps->data() + 256, largest_v > 0 ? v[i] / largest_v : 0.0f);
        v_codes[i] = static_cast<uint8_t>(v[i] > 0 ? std::max(c, 1) : c);
      }
    }
  }

  // t: the number of this update, from 1.
  void step(const std::vector<float> &g, const Hyper &h, float clip, int t, int64_t first, uint64_t seed) {
    decode();
    const auto step_size = static_cast<float>(h.lr / (1.0 - std::pow(static_cast<double>(h.beta1), t)));
    const auto correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(static_cast<double>(h.beta2), t)));
    for (size_t i = 0; i < p.size(); ++i) {
      const float clipped = g[i] * clip;
      m[i] = std::fma(m[i], h.beta1, clipped * (1.0f - h.beta1));
      const float square = clipped * clipped;
      v[i] = std::fma(v[i], h.beta2, square * (1.0f - h.beta2));
      const float denominator = std::fma(std::sqrt(v[i]), correction, h.eps);
      const float stepped = std::fma(-(m[i] / denominator), step_size, p[i]);
      const float moved = std::fma(-p[i], h.lr * h.decay, stepped);
      p[i] = master ? moved : stochastic(moved, static_cast<uint64_t>(first) + i, t, seed);
    }
    encode();
  }

  static float stochastic(float x, uint64_t index, int t, uint64_t seed) {
    const uint64_t counter = index / 8;
    const uint32_t counters[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                                  static_cast<uint32_t>(t), 0};
    uint32_t words[4], bits;
    philox(counters, seed, words);
    std::memcpy(&bits, &x, sizeof bits);
    bits += words[index % 8 / 2] >> (index % 2 * 16) & 0xffffu;
    bits &= 0xffff0000u;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

}  // namespace lethe::test
