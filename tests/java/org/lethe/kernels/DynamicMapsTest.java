package org.lethe.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;
import org.lethe.Hashes;

/** The maps are those of bitsandbytes, to the bit. */
class DynamicMapsTest {
  // Of create_dynamic_map's fp32 numbers, little-endian, with torch 2: tests/oracle/make_maps.py.
  private static final String SIGNED =
      "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c";
  private static final String UNSIGNED =
      "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398";

  private static String hash(float[] map) {
    ByteBuffer bytes = ByteBuffer.allocate(map.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(map);
    return HexFormat.of().formatHex(Hashes.sha256().digest(bytes.array()));
  }

  @Test
  void bothAreTorchs() {
    assertEquals(SIGNED, hash(DynamicMaps.signed()));
    assertEquals(UNSIGNED, hash(DynamicMaps.unsigned()));
    assertEquals(0, DynamicMaps.unsigned()[0]);
  }
}
