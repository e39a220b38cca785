package org.lethe.checkpoint.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.checkpoint.FloatStream;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.model.Goldens;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/**
 * Bytes and values of bitsandbytes' arithmetic, as {@code tests/oracle/make_quant.py} recreated it
 * from its source: equal to the bit.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class QuantVectorsTest {
  private SafetensorsFile fourBit;
  private SafetensorsFile int8;

  @BeforeAll
  void open() {
    fourBit = SafetensorsFile.open(Goldens.path("quant/four_bit.safetensors"));
    int8 = SafetensorsFile.open(Goldens.path("quant/int8.safetensors"));
  }

  @AfterAll
  void close() {
    fourBit.close();
    int8.close();
  }

  /** One case of four_bit.json. */
  record Case(String name, FourBit code, int blockSize, boolean nested, int elements) {
    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Case> cases() {
    JsonNode cases = Goldens.json("quant/four_bit.json").get("cases");
    return StreamSupport.stream(cases.spliterator(), false)
        .map(
            c ->
                new Case(
                    c.get("name").textValue(),
                    FourBit.valueOf(c.get("quant_type").textValue().toUpperCase(Locale.ROOT)),
                    c.get("blocksize").intValue(),
                    c.get("double").booleanValue(),
                    c.get("elements").intValue()));
  }

  private static byte[] bytes(SafetensorsFile file, String name) {
    ByteBuffer bytes = ByteBuffer.allocate((int) file.info(name).bytes());
    file.readInto(name, 0, bytes);
    return bytes.array();
  }

  private static float[] stored(SafetensorsFile file, String name) {
    float[] values = new float[(int) file.info(name).elements()];
    FloatStream.read(file, name, (n, first, some) -> some.get(values, (int) first, some.limit()));
    return values;
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    Arrays.setAll(bits, i -> Float.floatToRawIntBits(values[i]));
    return bits;
  }

  /** Values rounded to the type of a stored tensor, as bits. */
  private static byte[] rounded(float[] values, String dtype) {
    boolean wide = dtype.equals("F32");
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * (wide ? 4 : 2)).order(ByteOrder.LITTLE_ENDIAN);
    for (float value : values) {
      switch (dtype) {
        case "F32" -> bytes.putFloat(value);
        case "BF16" -> bytes.putShort((short) bfloat16(value));
        default -> bytes.putShort((short) half(value));
      }
    }
    return bytes.array();
  }

  private static int bfloat16(float value) {
    int bits = Float.floatToRawIntBits(value);
    return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }

  /** The half nearest to a finite value, found among all of a sign; ties to the even one. */
  private static int half(float value) {
    double size = Math.abs((double) value);
    int low = 0;
    int high = 0x7bff;
    while (high - low > 1) {
      int middle = (low + high) / 2;
      if (ofHalf(middle) <= size) {
        low = middle;
      } else {
        high = middle;
      }
    }
    double below = size - ofHalf(low);
    double above = ofHalf(high) - size;
    boolean up = above < below || (above == below && high % 2 == 0);
    return (up ? high : low) | (Float.floatToRawIntBits(value) < 0 ? 0x8000 : 0);
  }

  private static double ofHalf(int half) {
    int exponent = half >>> 10;
    int mantissa = half & 0x3ff;
    return exponent == 0
        ? Math.scalb((double) mantissa, -24)
        : Math.scalb(1024.0 + mantissa, exponent - 25);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void aTensorPacksToTheSameBytes(Case c) {
    float[] input = stored(fourBit, c.name() + ".input");
    assertEquals(c.elements(), input.length);
    float[] scales = new float[(int) FourBitBlocks.blocks(input.length, c.blockSize())];
    FourBitBlocks.scales(input, input.length, c.blockSize(), scales);
    byte[] packed = new byte[(int) FourBitBlocks.packedBytes(input.length)];
    FourBitBlocks.pack(c.code(), input, input.length, c.blockSize(), scales, packed);
    String weight = c.name() + ".weight";
    assertArrayEquals(bytes(fourBit, weight), packed);
    if (c.nested()) {
      NestedScales nested = NestedScales.of(scales);
      assertArrayEquals(bytes(fourBit, weight + ".absmax"), nested.codes());
      assertArrayEquals(bits(stored(fourBit, weight + ".nested_absmax")), bits(nested.scales()));
      assertEquals(state(c).nested().orElseThrow().offset(), nested.offset());
      assertEquals(NestedScales.BLOCK_SIZE, state(c).nested().orElseThrow().blockSize());
    } else {
      assertArrayEquals(bits(stored(fourBit, weight + ".absmax")), bits(scales));
    }
  }

  private QuantState state(Case c) {
    String name = c.name() + ".weight.quant_state.bitsandbytes__" + c.code().tag();
    return QuantState.parse(c.code(), bytes(fourBit, name));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void aTensorUnpacksToTheSameValues(Case c) {
    QuantState state = state(c);
    assertEquals(c.blockSize(), state.blockSize());
    assertEquals(c.elements(), state.elements());
    String weight = c.name() + ".weight";
    byte[] packed = bytes(fourBit, weight);
    float[] scales;
    if (c.nested()) {
      byte[] codes = bytes(fourBit, weight + ".absmax");
      float[] nested = stored(fourBit, weight + ".nested_absmax");
      float[] map = stored(fourBit, weight + ".nested_quant_map");
      float offset = state.nested().orElseThrow().offset();
      scales = new float[codes.length];
      for (int i = 0; i < codes.length; i++) {
        scales[i] = NestedScales.scale(map, codes[i], nested[i / 256], offset);
      }
    } else {
      scales = stored(fourBit, weight + ".absmax");
    }
    float[] values = new float[c.elements()];
    FourBitBlocks.unpack(c.code(), packed, c.blockSize(), scales, 0, values);
    String dtype = fourBit.info(c.name() + ".values").dtype().name();
    assertArrayEquals(bytes(fourBit, c.name() + ".values"), rounded(values, dtype));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void theStateIsWrittenAsPythonWritesIt(Case c) {
    String name = c.name() + ".weight.quant_state.bitsandbytes__" + c.code().tag();
    String expected = new String(bytes(fourBit, name), StandardCharsets.UTF_8);
    String found = new String(state(c).json(), StandardCharsets.UTF_8);
    // A vector's shape is a list of one, which is all that the golden's shapes are.
    assertEquals(expected, found);
  }

  @Test
  void everyThresholdBelongsToTheCodeBelow() {
    for (int code = 1; code < FourBit.CODES; code++) {
      float threshold = (FourBit.NF4.value(code - 1) + FourBit.NF4.value(code)) * 0.5f;
      assertEquals(code - 1, FourBit.NF4.code(threshold));
      assertEquals(code, FourBit.NF4.code(Math.nextUp(threshold)));
    }
    assertEquals(0, FourBit.NF4.code(Float.NaN));
    assertEquals(0, FourBit.FP4.code(Float.NaN));
    assertEquals(15, FourBit.NF4.code(1));
    assertEquals(0b1011, FourBit.FP4.code(-1));
    assertEquals(0, FourBit.FP4.code(-0f), "-0 is not below 0");
  }

  @Test
  void theDynamicMapIsTorchs() {
    float[] expected = stored(fourBit, "nf4-many-bfloat16-32-double.weight.nested_quant_map");
    float[] found = DynamicMap.values();
    assertArrayEquals(bits(expected), bits(found));
    for (int i = 0; i + 1 < found.length; i++) {
      assertEquals(i, DynamicMap.code(found, found[i]));
      float tie = (found[i] + found[i + 1]) * 0.5f;
      assertEquals(i + i % 2, DynamicMap.code(found, tie), "a tie takes the even index");
    }
    assertEquals(255, DynamicMap.code(found, 1));
    assertEquals(255, DynamicMap.code(found, 2));
    assertEquals(0, DynamicMap.code(found, -2));
    assertEquals(0, DynamicMap.code(found, Float.NaN));
  }

  @ParameterizedTest
  @ValueSource(strings = {"float32", "float16", "bfloat16"})
  void rowsOfWholeNumbersAreTheSame(String dtype) {
    float[] input = stored(int8, dtype + ".input");
    List<Long> shape = int8.info(dtype + ".input").shape();
    int rows = Math.toIntExact(shape.get(0));
    int columns = Math.toIntExact(shape.get(1));
    for (int i = 0; i < input.length; i++) {
      input[i] = (float) Math.copySign(ofHalf(half(input[i]) & 0x7fff), input[i]);
    }
    byte[] codes = new byte[input.length];
    float[] scales = new float[rows];
    float[] values = new float[input.length];
    for (int row = 0; row < rows; row++) {
      scales[row] = Int8Rows.pack(input, row * columns, columns, codes);
      for (int i = row * columns; i < (row + 1) * columns; i++) {
        values[i] = Int8Rows.value(codes[i], scales[row]);
      }
    }
    assertArrayEquals(bytes(int8, dtype + ".weight"), codes);
    assertArrayEquals(bits(stored(int8, dtype + ".SCB")), bits(scales));
    assertArrayEquals(bits(stored(int8, dtype + ".values")), bits(values));
    assertEquals(0, scales[2], "a row of zeros");
  }

  @ParameterizedTest
  @CsvSource({
    "0, 0.0",
    "-0.0, -0.0",
    "1, 1.0",
    "-12.5, -12.5",
    "0.1, 0.1",
    "0.10000000149011612, 0.10000000149011612",
    "0.0001, 0.0001",
    "0.00001, 1e-05",
    "-1.25e-7, -1.25e-07",
    "2e-323, 2e-323",
    "1e15, 1000000000000000.0",
    "1e16, 1e+16",
    "1.5e300, 1.5e+300"
  })
  void numbersAreSpelledAsPythonSpellsThem(double value, String expected) {
    assertEquals(expected, QuantState.python(value));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "[]                                   | no JSON object",
        "{                                    | not valid JSON",
        "{'a':1}                              | unknown key 'a'",
        "{}                                   | nothing under 'quant_type'",
        "{'quant_type':'fp4'}                 | \"fp4\" under 'quant_type', not nf4",
        "{'quant_type':'nf4'}                 | no positive whole number under 'blocksize'",
        "{'quant_type':'nf4','blocksize':48}  | blocksize 48",
        "{'quant_type':'nf4','blocksize':64,'dtype':'int8'} | 'dtype', not bfloat16 or float16",
        "{'quant_type':'nf4','blocksize':64,'dtype':'float32'} | 'shape'",
        "{'quant_type':'nf4','blocksize':64,'dtype':'float32','shape':[2,-1]} | must be positive",
        "{'quant_type':'nf4','blocksize':64,'dtype':'float32','shape':[2000000000,2000000000,9]}"
            + " | impossible shape",
        "{'quant_type':'nf4','blocksize':64,'dtype':'float32','shape':[2],'nested_offset':1}"
            + " | nothing under 'nested_dtype'",
        "{'quant_type':'nf4','blocksize':64,'dtype':'float32','shape':[2],"
            + "'nested_dtype':'float32','nested_blocksize':256} | 'nested_offset'"
      })
  void aDamagedStateIsRefused(String json, String message) {
    byte[] bytes = json.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    IllegalArgumentException refusal =
        assertThrows(IllegalArgumentException.class, () -> QuantState.parse(FourBit.NF4, bytes));
    assertTrue(refusal.getMessage().contains(message), refusal.getMessage());
  }
}
