package org.lethe.model;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.DynamicMaps;
import org.lethe.kernels.Ops;
import org.lethe.kernels.PartOps;
import org.lethe.kernels.Staging;

/**
 * AdamW's moments in an arena: in fp32, or for matrices a byte each with one scale for {@link
 * PartOps#MOMENT_BLOCK} neighbours of a group, and for vectors, of which there are few, in fp32.
 */
final class MomentArrays {
  private static final int MAPS = 2 * DynamicMaps.SIZE;

  private final Arena arena;
  private final Layout layout;
  private final boolean coded;
  private final Map<UpdateGroups.Group, Long> firstBlocks = new LinkedHashMap<>();
  private final long blocks;
  private final long[] codes = new long[2];
  private final long[] scales = new long[2];
  private final long[] floats = new long[2];
  private final long maps;

  /** Reserves them; {@link #begin} when the arena has been allocated. */
  MomentArrays(Arena arena, Layout layout, UpdateGroups groups, OptimizerConfig config) {
    this.arena = arena;
    this.layout = layout;
    this.coded = config.moments() == OptimizerConfig.Moments.EIGHT_BIT;
    long next = 0;
    for (UpdateGroups.Group group : groups.groups()) {
      firstBlocks.put(group, next);
      next += (group.matrices().n() + PartOps.MOMENT_BLOCK - 1) / PartOps.MOMENT_BLOCK;
    }
    this.blocks = next;
    for (int i = 0; i < 2; i++) {
      codes[i] = coded ? arena.reserveBytes(layout.decayed()) : 0;
      scales[i] = coded ? arena.reserve(blocks, Dtype.F32) : 0;
      floats[i] = arena.reserve(layout.elements() - firstFloat(), Dtype.F32);
    }
    this.maps = coded ? arena.reserve(MAPS, Dtype.F32) : 0;
  }

  /** Writes what must be there before the first update. */
  void begin() {
    if (coded) {
      float[] values = new float[MAPS];
      System.arraycopy(DynamicMaps.signed(), 0, values, 0, DynamicMaps.SIZE);
      System.arraycopy(DynamicMaps.unsigned(), 0, values, DynamicMaps.SIZE, DynamicMaps.SIZE);
      try (Staging staging = new Staging(MAPS * Float.BYTES)) {
        staging.upload(values, MAPS, arena.buffer(), maps);
      }
    }
  }

  /** Whether those of matrices are codes. */
  boolean coded() {
    return coded;
  }

  /** The ref of an fp32 moment of the parameter at an offset of the layout. */
  long floats(int moment, long offset) {
    return arena.at(floats[moment]) + (offset - firstFloat()) * Float.BYTES;
  }

  /** Those of a group's matrices. */
  PartOps.Moments ofMatrices(UpdateGroups.Group group) {
    long first = group.matrices().first();
    if (!coded) {
      return inFloats(first);
    }
    long block = firstBlocks.get(group) * Float.BYTES;
    return new PartOps.Moments(
        arena.at(codes[0]) + first,
        arena.at(codes[1]) + first,
        arena.at(scales[0]) + block,
        arena.at(scales[1]) + block,
        arena.at(maps));
  }

  /** Those from an offset on that are in fp32. */
  PartOps.Moments inFloats(long offset) {
    return new PartOps.Moments(floats(0, offset), floats(1, offset), 0, 0, 0);
  }

  /** Sets them to 0. */
  void reset(Ops ops) {
    for (int i = 0; i < 2; i++) {
      if (coded) {
        ops.zero(arena.at(codes[i]), layout.decayed());
        ops.zero(arena.at(scales[i]), blocks * Float.BYTES);
      }
      ops.zero(arena.at(floats[i]), (layout.elements() - firstFloat()) * Float.BYTES);
    }
  }

  /** What a checkpoint holds of one of the two, whole where it is codes: blocks know no names. */
  List<Trainable.Stored> stored(int moment) {
    String prefix = "moment" + (moment + 1);
    List<Trainable.Stored> all = new ArrayList<>();
    if (coded) {
      all.add(
          new Trainable.Stored(
              prefix + "_codes",
              Trainable.Kind.U8,
              List.of(layout.decayed()),
              arena.at(codes[moment])));
      all.add(
          new Trainable.Stored(
              prefix + "_scales", Trainable.Kind.F32, List.of(blocks), arena.at(scales[moment])));
    }
    for (Parameter p : layout.parameters().values()) {
      if (p.offset() >= firstFloat()) {
        all.add(
            new Trainable.Stored(
                prefix + "/" + p.name(),
                Trainable.Kind.F32,
                Trainable.extents(p),
                floats(moment, p.offset())));
      }
    }
    return all;
  }

  private long firstFloat() {
    return coded ? layout.decayed() : 0;
  }
}
