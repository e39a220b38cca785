// What a call's segments are: checked, and grouped so that groups share no key row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "device.h"

namespace lethe::cpu {

struct Rows {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// A segment sees its parent's keys, then its own, as one list of keys.
struct Segment {
  Rows queries, own, parent;
  int64_t keys() const { return parent.size() + own.size(); }
  int64_t key_row(int64_t j) const { return j < parent.size() ? parent.begin + j : own.begin + (j - parent.size()); }
  // Query i sees the keys [hidden(i), visible(i)) of the list.
  int64_t visible(int64_t i) const { return keys() - queries.size() + i + 1; }
  int64_t hidden(int64_t i, int64_t window) const {
    return window == 0 ? 0 : std::max<int64_t>(visible(i) - window, 0);
  }
};

// Reads the table; LETHE_OUT_OF_BOUNDS, LETHE_INVALID_ARGUMENT or, for query rows claimed twice, LETHE_OVERLAP names
// the segment at fault.
int read_segments(Device *device, const lethe_attention_args &args, std::vector<Segment> *segments);

// Segments connected by key rows they share, in the order of the table, and those rows as disjoint ranges in order.
struct SegmentGroup {
  std::vector<int64_t> segments;
  std::vector<Rows> keys;
  int64_t key_count = 0;
  // Where the gradient of a key row stands among the group's.
  int64_t offset_of(int64_t row) const;
};
std::vector<SegmentGroup> group_by_keys(const std::vector<Segment> &segments);

// Rows of [0, rows) that none of the ranges holds.
std::vector<Rows> uncovered(std::vector<Rows> ranges, int64_t rows);

}  // namespace lethe::cpu
