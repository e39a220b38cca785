#include <algorithm>
#include <limits>

#include "fibers.h"
#include "tensor_host.h"

namespace lethe::cuda::shim {
namespace {

// A warpgroup's accumulators that products on their way add to.
struct Sums {
  float *of[kGroupLanes];  // the threads' registers
  int count;               // of each
  std::vector<float> values;
  int last_group;
  unsigned unread;  // threads that have not waited for them
};
// What a product reads of shared memory.
struct Operands {
  std::vector<uint16_t> a, b;

  bool operator==(const Operands &other) const { return a == other.a && b == other.b; }
};
// A product on its way, with what it has read.
struct Reading {
  Product product;
  const uint32_t *registers[kGroupLanes];
  std::vector<uint32_t> a;
  Operands memory;
  int group;
  unsigned unseen;  // warps that have not waited for it
};
struct GroupWork {
  std::vector<Sums> sums;
  std::vector<Reading> readings;
  Operands seen[kGroupLanes / kLanes];  // by each warp, where the product that it comes to reads it
};
std::vector<GroupWork> works;

// Pieces of 16 bytes of an operand [lines,16] from shared memory, as [lines][16].
std::vector<uint16_t> gather(uint64_t descriptor, int lines, bool by_rows, const char *from) {
  constexpr uint64_t kReserved = uint64_t{3} << 14 | uint64_t{3} << 30 | uint64_t{7} << 46 | uint64_t{0x3ff} << 52;
  if ((descriptor & kReserved) != 0) throw ShimError("a matrix descriptor with reserved bits");
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) {
    throw ShimError("a matrix descriptor of another swizzle than 128 bytes on whole patterns");
  }
  const auto field = [&](int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  if ((start & 0x380) != 0) throw ShimError("a matrix descriptor off the boundary of its swizzle's pattern");
  const DynamicShared &memory = own_memory();
  std::vector<uint16_t> numbers(static_cast<size_t>(lines) * 16);
  const auto piece = [&](uint32_t offset, uint16_t *to) {
    const uint32_t address = swizzled(start + offset);
    if (address < kSharedStart || address + 16 > kSharedStart + memory.bytes()) {
      throw ShimError("a product reads outside of shared memory");
    }
    std::memcpy(to, from + (address - kSharedStart), 16);
  };
  if (!by_rows) {
    // Tiles of 8 lines, 128 bytes each, `stride` apart; 16 numbers are two pieces of a line.
    for (int line = 0; line < lines; ++line) {
      const uint32_t at = static_cast<uint32_t>(line % 8) * kRowBytes + static_cast<uint32_t>(line / 8) * stride;
      piece(at, &numbers[static_cast<size_t>(line) * 16]);
      piece(at + 16, &numbers[static_cast<size_t>(line) * 16 + 8]);
    }
    return numbers;
  }
  // Tiles of 64 lines by 8 numbers: the lines of one number are 128 bytes. The next 64 lines are `leading` apart, the
  // next 8 numbers `stride`.
  for (int k = 0; k < 16; ++k) {
    for (int line = 0; line < lines; line += 8) {
      uint16_t eight[8];
      piece(static_cast<uint32_t>(line % 64) * 2 + static_cast<uint32_t>(line / 64) * leading +
                static_cast<uint32_t>(k % 8) * kRowBytes + static_cast<uint32_t>(k / 8) * stride,
            eight);
      for (int i = 0; i < 8; ++i) numbers[static_cast<size_t>(line + i) * 16 + static_cast<size_t>(k)] = eight[i];
    }
  }
  return numbers;
}

// As they stand in the block's memory, or in what is shown of it.
Operands operands_of(const Product &p, const char *from = nullptr) {
  Operands o;
  const char *memory = from == nullptr ? own_memory().start() : from;
  if (p.a == nullptr) o.a = gather(p.a_at, 64, false, memory);
  o.b = gather(p.b_at, p.columns, p.b_by_rows, memory);
  return o;
}

float number(uint16_t bits) { return __uint_as_float(uint32_t{bits} << 16); }

// A[64,16] that stands in the threads' registers.
std::vector<uint16_t> gather_registers(const std::vector<uint32_t> &registers) {
  std::vector<uint16_t> a(64 * 16);
  for (unsigned t = 0; t < kGroupLanes; ++t) {
    const unsigned lane = t % kLanes;
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned row = t / kLanes * 16 + lane / 4 + i / 2 % 2 * 8, k = lane % 4 * 2 + i % 2 + i / 4 * 8;
      a[row * 16 + k] = static_cast<uint16_t>(registers[t * 4 + i / 2] >> (16 * (i % 2)));
    }
  }
  return a;
}

// In fp32, along k.
void multiply(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b, int columns, Sums *sums) {
  std::vector<float> right(static_cast<size_t>(columns) * 16), row(static_cast<size_t>(columns));
  for (int n = 0; n < columns; ++n) {
    for (int k = 0; k < 16; ++k) {
      const auto at = static_cast<size_t>(k), line = static_cast<size_t>(n);
      right[at * static_cast<size_t>(columns) + line] = number(b[line * 16 + at]);
    }
  }
  for (unsigned m = 0; m < 64; ++m) {
    // A row of a warp's 16 stands in four lanes: register i of a lane is of column 8 (i / 4) + 2 (lane % 4) + i % 2,
    // and of the upper or the lower eight rows as i / 2 is even or odd.
    const unsigned first = m / 16 * kLanes + m % 8 * 4, half = m / 8 % 2;
    const auto at = [&](int n) -> float & {
      const auto column = static_cast<unsigned>(n);
      const unsigned thread = first + column % 8 / 2, i = column / 8 * 4 + half * 2 + column % 2;
      return sums->values[thread * static_cast<unsigned>(sums->count) + i];
    };
    for (int n = 0; n < columns; ++n) row[static_cast<size_t>(n)] = at(n);
    for (unsigned k = 0; k < 16; ++k) {
      const float x = number(a[m * 16 + k]);
      const float *line = right.data() + k * static_cast<unsigned>(columns);
      for (int n = 0; n < columns; ++n) row[static_cast<size_t>(n)] += x * line[n];
    }
    for (int n = 0; n < columns; ++n) at(n) = row[static_cast<size_t>(n)];
  }
}

unsigned meeting_group = 0;  // that meets

Sums *sums_of(GroupWork *work, void *(&brought)[kGroupLanes]) {
  const auto &first = *static_cast<const Product *>(brought[0]);
  for (Sums &sums : work->sums) {
    if (sums.of[0] == first.c) return &sums;
  }
  Sums fresh = {};
  fresh.count = first.columns / 2;
  for (unsigned t = 0; t < kGroupLanes; ++t) {
    fresh.of[t] = static_cast<const Product *>(brought[t])->c;
    fresh.values.insert(fresh.values.end(), fresh.of[t], fresh.of[t] + fresh.count);
  }
  work->sums.push_back(std::move(fresh));
  return &work->sums.back();
}

// Nothing parts a warp's coming to a product from its reading what the other warps have written.
void look_ahead(void *(&brought)[kLanes]) {
  works[block.running / kGroupLanes].seen[block.running % kGroupLanes / kLanes] =
      operands_of(*static_cast<const Product *>(brought[0]));
}

// The operands are read at once, and again when the product was waited for.
void begin_product(void *(&brought)[kGroupLanes]) {
  GroupWork &work = works[meeting_group / kGroupLanes];
  const Product first = *static_cast<const Product *>(brought[0]);
  Reading reading = {};
  reading.product = first;
  reading.group = block.fibers[meeting_group].product_groups;
  reading.unseen = kGroupLanes / kLanes;
  for (unsigned t = 0; t < kGroupLanes; ++t) {
    const auto &mine = *static_cast<const Product *>(brought[t]);
    const Fiber &fiber = block.fibers[meeting_group + t];
    if (!fiber.fenced) throw ShimError("a product without a fence in front of it");
    if (mine.a_at != first.a_at || mine.b_at != first.b_at || mine.columns != first.columns ||
        mine.b_by_rows != first.b_by_rows || (mine.a == nullptr) != (first.a == nullptr) ||
        fiber.product_groups != reading.group) {
      throw ShimError("a warpgroup's threads bring different products");
    }
    reading.registers[t] = mine.a;
    if (mine.a != nullptr) reading.a.insert(reading.a.end(), mine.a, mine.a + 4);
  }
  reading.memory = operands_of(first);
  for (const Operands &seen : work.seen) {
    if (!(seen == reading.memory))
      throw ShimError("a product's operand was written when a warp had come to the product");
  }
  if (!(operands_of(first, shown_memory()) == reading.memory)) {
    throw ShimError("a product's operand was stored to, and no fence has shown it");
  }
  Sums *sums = sums_of(&work, brought);
  sums->last_group = reading.group;
  sums->unread = kGroupLanes;
  multiply(first.a == nullptr ? reading.memory.a : gather_registers(reading.a), reading.memory.b, first.columns, sums);
  for (unsigned t = 0; t < kGroupLanes; ++t) {
    std::fill_n(sums->of[t], sums->count, std::numeric_limits<float>::quiet_NaN());
  }
  work.readings.push_back(std::move(reading));
}

// By one lane of each warp: what the products of the groups in front of `done` read is as it was.
void check_readings(GroupWork *work, int done) {
  const unsigned thread = block.running % kGroupLanes, warp = thread / kLanes * kLanes;
  for (Reading &reading : work->readings) {
    if (reading.group >= done || reading.unseen == 0) continue;
    const Product &p = reading.product;
    bool same = operands_of(p) == reading.memory;
    for (unsigned t = warp; p.a != nullptr && t < warp + kLanes; ++t) {
      same = same && std::equal(reading.registers[t], reading.registers[t] + 4, reading.a.begin() + t * 4);
    }
    if (!same) fault("a product's operand was written before the product was waited for");
    --reading.unseen;
  }
}

// Hands the running thread its sums.
void read_sums(GroupWork *work, int done) {
  const unsigned thread = block.running % kGroupLanes;
  for (Sums &sums : work->sums) {
    if (sums.last_group >= done) continue;
    float *registers = sums.of[thread];
    const float *values = sums.values.data() + thread * static_cast<unsigned>(sums.count);
    for (int i = 0; i < sums.count; ++i) {
      if (registers[i] == registers[i]) fault("accumulators were written before their products were waited for");
    }
    std::copy_n(values, sums.count, registers);
    --sums.unread;
  }
}

void nothing(void *(&)[kLanes]) {}
void nothing_together(void *(&)[kGroupLanes]) {}

}  // namespace

void clear_products() {
  works.clear();
  works.resize(block.fibers.size() / kGroupLanes + 1);
}

void check_products(unsigned first, unsigned threads) {
  for (unsigned t = first; t + kGroupLanes <= first + threads; t += kGroupLanes) {
    if (works[t / kGroupLanes].readings.empty()) continue;
    throw ShimError("block " + std::to_string(current.block.x) +
                    " has returned with products that it did not wait for");
  }
}

void meet_group(unsigned first) {
  void *brought[kGroupLanes];
  const GroupMeeting meeting = block.fibers[first].group_meeting;
  for (unsigned t = 0; t < kGroupLanes; ++t) {
    if (block.fibers[first + t].group_meeting != meeting) {
      throw ShimError("threads of a warpgroup meet for different things");
    }
    brought[t] = block.fibers[first + t].brought;
  }
  meeting_group = first;
  meeting(brought);
}

bool end_products() {
  bool any = false;
  for (Fiber &fiber : block.fibers) {
    if (fiber.state != State::kProducts) continue;
    fiber.state = State::kReady;
    any = true;
  }
  return any;
}

void product(const Product &mine) {
  Product own = mine;
  warp_meet(&own, look_ahead);
  group_meet(&own, begin_product);
}

void products_fence() {
  warp_meet(nullptr, nothing);
  block.fibers[block.running].fenced = true;
}

void products_commit() {
  warp_meet(nullptr, nothing);
  ++block.fibers[block.running].product_groups;
}

void products_wait(int groups_left) {
  warp_meet(nullptr, nothing);
  Fiber &fiber = block.fibers[block.running];
  GroupWork &work = works[block.running / kGroupLanes];
  const int done = fiber.product_groups - groups_left;
  fiber.fenced = false;
  const auto over = [&](const Reading &r) { return r.group < done; };
  if (std::any_of(work.readings.begin(), work.readings.end(), over)) wait(State::kProducts);
  if (block.running % kLanes == 0) check_readings(&work, done);
  read_sums(&work, done);
  warp_meet(nullptr, nothing);
  const auto read = [](const Sums &s) { return s.unread == 0; };
  work.sums.erase(std::remove_if(work.sums.begin(), work.sums.end(), read), work.sums.end());
  const auto seen = [](const Reading &r) { return r.unseen == 0; };
  work.readings.erase(std::remove_if(work.readings.begin(), work.readings.end(), seen), work.readings.end());
}

void registers_changed() { group_meet(nullptr, nothing_together); }

void registers_written() { block.fibers[block.running].fenced = false; }

}  // namespace lethe::cuda::shim
