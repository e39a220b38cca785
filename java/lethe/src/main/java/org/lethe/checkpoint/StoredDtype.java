package org.lethe.checkpoint;

import java.util.Optional;

/** The element types a safetensors file may hold, by the names its header spells. */
public enum StoredDtype {
  BOOL(8),
  F4(4),
  F6_E2M3(6),
  F6_E3M2(6),
  U8(8),
  I8(8),
  F8_E5M2(8),
  F8_E4M3(8),
  F8_E8M0(8),
  F8_E4M3FNUZ(8),
  F8_E5M2FNUZ(8),
  I16(16),
  U16(16),
  F16(16),
  BF16(16),
  I32(32),
  U32(32),
  F32(32),
  C64(64),
  F64(64),
  I64(64),
  U64(64);

  private final int bits;

  StoredDtype(int bits) {
    this.bits = bits;
  }

  /** Bits per element; fewer than 8 for the packed types. */
  public int bits() {
    return bits;
  }

  /** Whether {@link FloatStream} converts this type from and to {@code float}. */
  public boolean convertsToFloat() {
    return this == F32 || this == BF16 || this == F16;
  }

  static Optional<StoredDtype> named(String name) {
    for (StoredDtype dtype : values()) {
      if (dtype.name().equals(name)) {
        return Optional.of(dtype);
      }
    }
    return Optional.empty();
  }
}
