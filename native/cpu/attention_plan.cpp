#include "attention_plan.h"

#include <algorithm>
#include <numeric>
#include <string>

namespace lethe::cpu {
namespace {

bool by_begin(const Rows &a, const Rows &b) { return a.begin < b.begin; }

bool inside(const Rows &range, int64_t rows) {
  return range.begin >= 0 && range.end >= range.begin && range.end <= rows;
}

std::string text(const char *name, const Rows &range, int64_t rows) {
  return std::string(name) + " are " + std::to_string(range.size()) + " rows from " + std::to_string(range.begin) +
         " of " + std::to_string(rows);
}

int check_one(Device *device, const lethe_attention_args &args, const Segment &s, int64_t index) {
  const std::string who = "segment " + std::to_string(index) + ": ";
  if (!inside(s.queries, args.q_rows)) {
    return LETHE_CPU_FAIL(device, LETHE_OUT_OF_BOUNDS, who + text("queries", s.queries, args.q_rows));
  }
  if (!inside(s.own, args.k_rows)) {
    return LETHE_CPU_FAIL(device, LETHE_OUT_OF_BOUNDS, who + text("own keys", s.own, args.k_rows));
  }
  if (!inside(s.parent, args.k_rows)) {
    return LETHE_CPU_FAIL(device, LETHE_OUT_OF_BOUNDS, who + text("parent keys", s.parent, args.k_rows));
  }
  if (s.queries.size() > s.own.size()) {
    return LETHE_CPU_FAIL(
        device, LETHE_INVALID_ARGUMENT,
        who + std::to_string(s.queries.size()) + " queries but only " + std::to_string(s.own.size()) + " own keys");
  }
  return LETHE_OK;
}

// Two segments that wrote the same row would race.
int check_queries(Device *device, const std::vector<Segment> &segments) {
  std::vector<int64_t> order(segments.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return by_begin(segments[static_cast<size_t>(a)].queries, segments[static_cast<size_t>(b)].queries);
  });
  int64_t last = -1;
  for (const int64_t index : order) {
    const Rows &queries = segments[static_cast<size_t>(index)].queries;
    if (queries.size() == 0) continue;
    if (last >= 0 && queries.begin < segments[static_cast<size_t>(last)].queries.end) {
      return LETHE_CPU_FAIL(device, LETHE_OVERLAP,
                            "segments " + std::to_string(last) + " and " + std::to_string(index) + " share query rows");
    }
    last = index;
  }
  return LETHE_OK;
}

int64_t root_of(std::vector<int64_t> *parent, int64_t i) {
  while ((*parent)[static_cast<size_t>(i)] != i) i = (*parent)[static_cast<size_t>(i)];
  return i;
}

}  // namespace

int read_segments(Device *device, const lethe_attention_args &args, std::vector<Segment> *segments) {
  segments->reserve(static_cast<size_t>(args.segments));
  for (int64_t i = 0; i < args.segments; ++i) {
    const int32_t *f = args.segment_table + i * LETHE_SEGMENT_FIELDS;
    const auto rows = [&](int at) { return Rows{f[at], int64_t{f[at]} + f[at + 1]}; };
    const Segment segment = {rows(0), rows(2), rows(4)};
    const int status = check_one(device, args, segment, i);
    if (status != LETHE_OK) return status;
    segments->push_back(segment);
  }
  return check_queries(device, *segments);
}

int64_t SegmentGroup::offset_of(int64_t row) const {
  int64_t offset = 0;
  for (const Rows &range : keys) {
    if (row < range.end) return offset + row - range.begin;
    offset += range.size();
  }
  return offset;
}

std::vector<SegmentGroup> group_by_keys(const std::vector<Segment> &segments) {
  struct Claim {
    Rows rows;
    int64_t segment;
  };
  std::vector<Claim> claims;
  for (size_t i = 0; i < segments.size(); ++i) {
    for (const Rows &rows : {segments[i].own, segments[i].parent}) {
      if (rows.size() > 0) claims.push_back({rows, static_cast<int64_t>(i)});
    }
  }
  std::stable_sort(claims.begin(), claims.end(),
                   [](const Claim &a, const Claim &b) { return by_begin(a.rows, b.rows); });
  std::vector<int64_t> parent(segments.size());
  std::iota(parent.begin(), parent.end(), 0);
  std::vector<Claim> merged;
  for (const Claim &claim : claims) {
    if (!merged.empty() && claim.rows.begin < merged.back().rows.end) {
      merged.back().rows.end = std::max(merged.back().rows.end, claim.rows.end);
      const int64_t a = root_of(&parent, merged.back().segment);
      const int64_t b = root_of(&parent, claim.segment);
      parent[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
    } else {
      merged.push_back(claim);
    }
  }
  std::vector<SegmentGroup> groups;
  std::vector<int64_t> group_of(segments.size(), -1);
  for (size_t i = 0; i < segments.size(); ++i) {
    int64_t &group = group_of[static_cast<size_t>(root_of(&parent, static_cast<int64_t>(i)))];
    if (group < 0) {
      group = static_cast<int64_t>(groups.size());
      groups.emplace_back();
    }
    groups[static_cast<size_t>(group)].segments.push_back(static_cast<int64_t>(i));
  }
  for (const Claim &claim : merged) {
    const int64_t root = root_of(&parent, claim.segment);
    SegmentGroup &group = groups[static_cast<size_t>(group_of[static_cast<size_t>(root)])];
    group.keys.push_back(claim.rows);
    group.key_count += claim.rows.size();
  }
  return groups;
}

std::vector<Rows> uncovered(std::vector<Rows> ranges, int64_t rows) {
  std::sort(ranges.begin(), ranges.end(), by_begin);
  std::vector<Rows> gaps;
  int64_t at = 0;
  for (const Rows &range : ranges) {
    if (range.size() == 0) continue;
    if (range.begin > at) gaps.push_back({at, range.begin});
    at = std::max(at, range.end);
  }
  if (at < rows) gaps.push_back({at, rows});
  return gaps;
}

}  // namespace lethe::cpu
