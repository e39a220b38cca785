#include <utility>

#include "ops_quantize.h"

using lethe::guarded;
using lethe::kInt64;
using lethe::Linear;
using lethe::LinearAdapter;
using lethe::Nf4Part;
using lethe::Operands;

int lethe_engine::find_linear(lethe_linear id, Linear **linear) {
  if (id == 0 || id > linears.size() || !linears[id - 1].open) {
    return LETHE_FAIL(LETHE_CLOSED, "the linear was closed, or never created by this engine");
  }
  *linear = &linears[id - 1];
  return LETHE_OK;
}

namespace {

// A weight in 4-bit codes: where it is dequantised to, and how.
void *add_codes_of(Operands *operands, const Linear &linear, std::vector<lethe_nf4_args> *codes) {
  const int64_t stride = linear.in + linear.spare_columns();
  auto *scratch = operands->out<char>("scratch", linear.w, linear.dtype, {linear.out + linear.spare_rows, stride});
  int64_t rows = 0;
  for (const Nf4Part &part : linear.parts) {
    codes->push_back(lethe::add_codes(operands, linear.dtype, part.part_out * linear.in, linear.block, part));
    codes->back().dst = scratch + part.first_out * stride * lethe::dtype_bytes(linear.dtype);
    codes->back().row = linear.spare_columns() > 0 ? linear.in : 0;
    codes->back().dst_stride = stride;
    rows += part.part_out;
  }
  if (rows < linear.out) {
    operands->refuse(LETHE_INVALID_ARGUMENT, "only " + std::to_string(rows) + " of the weight's " +
                                                 std::to_string(linear.out) +
                                                 " rows have codes; give the others by lethe_linear_nf4_part");
  }
  return scratch;
}

int dequantize(lethe_engine *engine, const std::vector<lethe_nf4_args> &codes) {
  for (const lethe_nf4_args &part : codes) LETHE_TRY(LETHE_CALL(engine, nf4_dequantize, &part));
  return LETHE_OK;
}

// What the forward and the backward call share: the weight, its adapters, and the rows they act on. reads_weight:
// whether the call reads a weight in 4-bit codes, which then come with it.
void add_weights(Operands *operands, const Linear &linear, bool gradients, bool reads_weight,
                 std::vector<lethe_adapter> *adapters, std::vector<lethe_nf4_args> *codes, lethe_linear_args *args) {
  args->dtype = linear.dtype;
  args->out = linear.out;
  args->in = linear.in;
  args->w_stride = linear.in + linear.spare_columns();
  args->spare_rows = linear.spare_rows;
  if (linear.block != 0) {
    void *const scratch = reads_weight ? add_codes_of(operands, linear, codes) : nullptr;
    args->w = scratch;
    if (linear.spares()) args->spare = scratch;
  } else if (linear.spares()) {
    args->spare = operands->out("w", linear.w, linear.dtype, {linear.out + linear.spare_rows, args->w_stride});
    args->w = args->spare;
  } else {
    args->w = operands->in("w", linear.w, linear.dtype, {linear.out, linear.in});
  }
  if (gradients) {
    args->dw = operands->out_or_null<float>("dw", linear.dw, LETHE_F32, {linear.out, linear.in});
    args->db = operands->out_or_null<float>("db of the bias", linear.db, LETHE_F32, {linear.out});
  } else {
    args->b = operands->in_or_null("b", linear.b, linear.dtype, {linear.out});
  }
  for (const LinearAdapter &adapter : linear.adapters) {
    lethe_adapter resolved = {};
    resolved.first_out = adapter.first_out;
    resolved.part_out = adapter.part_out;
    resolved.rank = adapter.rank;
    resolved.scale = adapter.scale;
    resolved.dropout = adapter.dropout;
    resolved.key = adapter.key;
    resolved.a = operands->in("a", adapter.a, linear.dtype, {adapter.rank, linear.in});
    resolved.b = operands->in("b", adapter.b, linear.dtype, {adapter.part_out, adapter.rank});
    if (gradients) {
      resolved.da = operands->out_or_null<float>("da", adapter.da, LETHE_F32, {adapter.rank, linear.in});
      resolved.db = operands->out_or_null<float>("db", adapter.db, LETHE_F32, {adapter.part_out, adapter.rank});
    }
    adapters->push_back(resolved);
  }
  args->adapters = adapters->data();
  args->adapter_count = static_cast<int64_t>(adapters->size());
  args->total_rank = linear.total_rank;
}

lethe_linear enter(lethe_engine *engine, Linear &&created) {
  created.open = true;
  engine->linears.push_back(std::move(created));
  return engine->linears.size();
}

// Enters a linear whose weight may have spare columns and rows, where the backend has a use for them.
int enter_strided(lethe_engine *engine, Linear &&created, lethe_linear *linear) {
  if (created.spares() && engine->backend->linear_spare == nullptr) {
    return LETHE_FAIL(LETHE_UNSUPPORTED, std::string("backend '") + engine->backend->name +
                                             "' has no use for spare columns and rows; create the linear packed");
  }
  *linear = enter(engine, std::move(created));
  return LETHE_OK;
}

// [out,in], as it lies.
struct Extent {
  int64_t out, in, stride, spare_rows;
};

int create_nf4(lethe_engine *engine, int32_t dtype, const Extent &e, int64_t block, lethe_ref scratch, lethe_ref b,
               lethe_linear *linear) {
  Operands operands(engine);
  operands.require(linear != nullptr, LETHE_INVALID_ARGUMENT, "linear must not be null");
  operands.floating(dtype);
  operands.positive("out", e.out);
  operands.positive("in", e.in);
  operands.size("spare_rows", e.spare_rows);
  operands.require(e.stride >= e.in, LETHE_INVALID_ARGUMENT, "w_stride must be at least in");
  lethe::require_block(&operands, block);
  operands.out("scratch", scratch, dtype, {e.out + e.spare_rows, e.stride});
  operands.in_or_null("b", b, dtype, {e.out});
  LETHE_TRY(operands.finish());
  Linear created;
  created.dtype = dtype;
  created.out = e.out;
  created.in = e.in;
  created.w_stride = e.stride;
  created.spare_rows = e.spare_rows;
  created.w = scratch;
  created.b = b;
  created.block = block;
  return enter_strided(engine, std::move(created), linear);
}

}  // namespace

extern "C" {

int lethe_linear_create(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, lethe_ref w, lethe_ref dw,
                        lethe_ref b, lethe_ref db, lethe_linear *linear) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.require(linear != nullptr, LETHE_INVALID_ARGUMENT, "linear must not be null");
    operands.floating(dtype);
    operands.positive("out", out);
    operands.positive("in", in);
    operands.in("w", w, dtype, {out, in});
    operands.out_or_null("dw", dw, LETHE_F32, {out, in});
    operands.in_or_null("b", b, dtype, {out});
    operands.out_or_null("db", db, LETHE_F32, {out});
    operands.require(b != 0 || db == 0, LETHE_INVALID_ARGUMENT, "db is given without b");
    LETHE_TRY(operands.finish());
    Linear created;
    created.dtype = dtype;
    created.out = out;
    created.in = in;
    created.w = w;
    created.dw = dw;
    created.b = b;
    created.db = db;
    *linear = enter(engine, std::move(created));
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_linear_create_nf4(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t block,
                            lethe_ref scratch, lethe_ref b, lethe_linear *linear) {
  return guarded(__func__, [&] { return create_nf4(engine, dtype, {out, in, in, 0}, block, scratch, b, linear); });
}

int lethe_linear_create_nf4_strided(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t w_stride,
                                    int64_t spare_rows, int64_t block, lethe_ref scratch, lethe_ref b,
                                    lethe_linear *linear) {
  return guarded(__func__, [&] {
    return create_nf4(engine, dtype, {out, in, w_stride, spare_rows}, block, scratch, b, linear);
  });
}

int lethe_linear_nf4_part(lethe_engine *engine, lethe_linear linear, int64_t first_out, int64_t part_out,
                          lethe_ref packed, lethe_ref absmax, lethe_ref nested, lethe_ref nested_map,
                          lethe_ref nested_absmax, float nested_offset) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    LETHE_TRY(operands.status());
    Linear *target = nullptr;
    LETHE_TRY(engine->find_linear(linear, &target));
    operands.require(target->block != 0, LETHE_INVALID_ARGUMENT,
                     "this linear's weight is plain; make one by lethe_linear_create_nf4");
    operands.size("first_out", first_out);
    operands.positive("part_out", part_out);
    LETHE_TRY(operands.status());
    if (first_out > target->out || part_out > target->out - first_out) {
      operands.refuse(LETHE_OUT_OF_BOUNDS, "the part's rows leave the weight's " + std::to_string(target->out));
    }
    for (const Nf4Part &other : target->parts) {
      operands.require(first_out >= other.first_out + other.part_out || first_out + part_out <= other.first_out,
                       LETHE_OVERLAP, "the part's rows are those of another part, too");
    }
    LETHE_TRY(operands.status());
    const Nf4Part part = {first_out, part_out, packed, absmax, nested, nested_map, nested_absmax, nested_offset};
    lethe::add_codes(&operands, target->dtype, part_out * target->in, target->block, part);
    // Its scratch is written when the codes are read.
    operands.out("scratch", target->w, target->dtype,
                 {target->out + target->spare_rows, target->in + target->spare_columns()});
    LETHE_TRY(operands.finish());
    target->parts.push_back(part);
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_linear_spare(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t rank, int64_t *w_stride,
                       int64_t *spare_rows) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.require(w_stride != nullptr && spare_rows != nullptr, LETHE_INVALID_ARGUMENT,
                     "w_stride and spare_rows must not be null");
    operands.floating(dtype);
    operands.positive("out", out);
    operands.positive("in", in);
    operands.size("rank", rank);
    LETHE_TRY(operands.finish());
    *w_stride = in;
    *spare_rows = 0;
    if (engine->backend->linear_spare == nullptr || rank == 0) return static_cast<int>(LETHE_OK);
    return engine->backend->linear_spare(engine->device, dtype, out, in, rank, w_stride, spare_rows);
  });
}

int lethe_linear_create_strided(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t w_stride,
                                int64_t spare_rows, lethe_ref w, lethe_ref b, lethe_linear *linear) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.require(linear != nullptr, LETHE_INVALID_ARGUMENT, "linear must not be null");
    operands.floating(dtype);
    operands.positive("out", out);
    operands.positive("in", in);
    operands.size("spare_rows", spare_rows);
    operands.require(w_stride >= in, LETHE_INVALID_ARGUMENT, "w_stride must be at least in");
    operands.in("w", w, dtype, {out + spare_rows, w_stride});
    operands.in_or_null("b", b, dtype, {out});
    LETHE_TRY(operands.finish());
    Linear created;
    created.dtype = dtype;
    created.out = out;
    created.in = in;
    created.w_stride = w_stride;
    created.spare_rows = spare_rows;
    created.w = w;
    created.b = b;
    return enter_strided(engine, std::move(created), linear);
  });
}

int lethe_linear_adapter(lethe_engine *engine, lethe_linear linear, int64_t first_out, int64_t part_out, int64_t rank,
                         float scale, float dropout, uint64_t key, lethe_ref a, lethe_ref b, lethe_ref da,
                         lethe_ref db) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    LETHE_TRY(operands.status());
    Linear *target = nullptr;
    LETHE_TRY(engine->find_linear(linear, &target));
    operands.size("first_out", first_out);
    operands.positive("part_out", part_out);
    operands.positive("rank", rank);
    if (first_out > target->out || part_out > target->out - first_out) {
      operands.refuse(LETHE_OUT_OF_BOUNDS, "the adapter's outputs leave the weight's " + std::to_string(target->out));
    }
    const int64_t columns = target->spare_columns(), rows = target->spare_rows, ranks = target->total_rank;
    if ((columns > 0 && rank > columns - ranks) || (rows > 0 && rank > rows - ranks)) {
      operands.refuse(LETHE_OUT_OF_BOUNDS, "the adapters' ranks exceed the weight's " + std::to_string(columns) +
                                               " spare columns or " + std::to_string(rows) + " spare rows");
    }
    operands.require(dropout >= 0.0f && dropout < 1.0f, LETHE_INVALID_ARGUMENT, "dropout must be in [0, 1)");
    operands.require((da == 0) == (db == 0), LETHE_INVALID_ARGUMENT, "da and db are given together or not at all");
    operands.in("a", a, target->dtype, {rank, target->in});
    operands.in("b", b, target->dtype, {part_out, rank});
    operands.out_or_null("da", da, LETHE_F32, {rank, target->in});
    operands.out_or_null("db", db, LETHE_F32, {part_out, rank});
    LETHE_TRY(operands.finish());
    target->adapters.push_back(LinearAdapter{first_out, part_out, rank, scale, dropout, key, a, b, da, db});
    target->total_rank += rank;
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_linear_close(lethe_engine *engine, lethe_linear linear) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    Linear *target = nullptr;
    LETHE_TRY(engine->find_linear(linear, &target));
    *target = Linear();
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_linear_forward(lethe_engine *engine, lethe_linear linear, int64_t T, int64_t adapted, lethe_ref x,
                         lethe_ref residual, lethe_ref y, lethe_ref row_keys, lethe_ref u) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    LETHE_TRY(operands.status());
    Linear *target = nullptr;
    LETHE_TRY(engine->find_linear(linear, &target));
    lethe_linear_args args = {};
    std::vector<lethe_adapter> adapters;
    std::vector<lethe_nf4_args> codes;
    add_weights(&operands, *target, false, T > 0, &adapters, &codes, &args);
    operands.size("adapted", adapted);
    operands.require(adapted <= T, LETHE_INVALID_ARGUMENT, "adapted exceeds T");
    args.T = T;
    args.adapted = adapted;
    args.x = operands.in("x", x, target->dtype, {T, target->in});
    args.residual = operands.in_or_null("residual", residual, target->dtype, {T, target->out});
    args.y = operands.out("y", y, target->dtype, {T, target->out});
    if (adapted > 0 && target->total_rank > 0) {
      args.row_keys = operands.in_or_null<uint64_t>("row_keys", row_keys, kInt64, {adapted});
      args.u = operands.out("u", u, target->dtype, {adapted, target->total_rank});
    }
    LETHE_TRY(operands.finish({{"residual", "y"}}));
    LETHE_TRY(dequantize(engine, codes));
    return LETHE_CALL(engine, linear_forward, &args);
  });
}

int lethe_linear_backward(lethe_engine *engine, lethe_linear linear, int64_t T, lethe_ref x, lethe_ref u, lethe_ref dy,
                          lethe_ref row_keys, lethe_ref du, lethe_ref dx) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    LETHE_TRY(operands.status());
    Linear *target = nullptr;
    LETHE_TRY(engine->find_linear(linear, &target));
    lethe_linear_args args = {};
    std::vector<lethe_adapter> adapters;
    std::vector<lethe_nf4_args> codes;
    add_weights(&operands, *target, true, T > 0 && dx != 0, &adapters, &codes, &args);
    args.T = T;
    args.adapted = T;
    args.x = operands.in("x", x, target->dtype, {T, target->in});
    args.dy = operands.in("dy", dy, target->dtype, {T, target->out});
    args.dx = operands.out_or_null("dx", dx, target->dtype, {T, target->in});
    if (T > 0 && target->total_rank > 0) {
      args.row_keys = operands.in_or_null<uint64_t>("row_keys", row_keys, kInt64, {T});
      // Read-only here; the struct shares the field with the forward pass.
      args.u = const_cast<void *>(operands.in("u", u, target->dtype, {T, target->total_rank}));
      args.du = operands.out("du", du, target->dtype, {T, target->total_rank});
    }
    LETHE_TRY(operands.finish());
    LETHE_TRY(dequantize(engine, codes));
    return LETHE_CALL(engine, linear_backward, &args);
  });
}

}  // extern "C"
