package org.lethe.report;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads event files without any of the writer's code: the CRC bit by bit from its polynomial, the
 * messages field by field.
 */
final class EventReader {
  /** One event; what it does not have is null, empty or 0. */
  record Event(
      double wallTime,
      long step,
      String version,
      Map<String, Float> scalars,
      Map<String, String> texts,
      int session) {}

  /** A field of a message; {@code number} holds varints and fixed bits, {@code bytes} the rest. */
  private record Field(int number, int wireType, long value, byte[] bytes) {}

  private EventReader() {}

  static List<Event> read(Path file) throws IOException {
    ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    List<Event> events = new ArrayList<>();
    while (in.hasRemaining()) {
      byte[] length = new byte[8];
      in.get(length);
      check(file, length, in.getInt());
      byte[] data = new byte[Math.toIntExact(little(length))];
      in.get(data);
      check(file, data, in.getInt());
      events.add(event(data));
    }
    return events;
  }

  private static void check(Path file, byte[] data, int stored) {
    int crc = crc32c(data);
    int masked = (int) ((((crc >>> 15) | (long) crc << 17) + 0xa282ead8L) & 0xffffffffL);
    if (masked != stored) {
      throw new AssertionError(file + ": a CRC is wrong");
    }
  }

  /** Castagnoli's polynomial, reflected. */
  static int crc32c(byte[] data) {
    int crc = -1;
    for (byte b : data) {
      crc ^= b & 0xff;
      for (int bit = 0; bit < 8; bit++) {
        crc = (crc & 1) == 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f63b78;
      }
    }
    return ~crc;
  }

  private static long little(byte[] bytes) {
    return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
  }

  private static Event event(byte[] data) {
    double wallTime = 0;
    long step = 0;
    String version = null;
    int session = 0;
    Map<String, Float> scalars = new LinkedHashMap<>();
    Map<String, String> texts = new LinkedHashMap<>();
    for (Field field : fields(data)) {
      switch (field.number()) {
        case 1 -> wallTime = Double.longBitsToDouble(field.value());
        case 2 -> step = field.value();
        case 3 -> version = text(field.bytes());
        case 5 -> fields(field.bytes()).forEach(value -> value(value.bytes(), scalars, texts));
        case 7 -> session = (int) fields(field.bytes()).get(0).value();
        default -> throw new AssertionError("Event has no field " + field.number());
      }
    }
    return new Event(wallTime, step, version, scalars, texts, session);
  }

  private static void value(byte[] data, Map<String, Float> scalars, Map<String, String> texts) {
    String tag = null;
    for (Field field : fields(data)) {
      switch (field.number()) {
        case 1 -> tag = text(field.bytes());
        case 2 -> scalars.put(tag, Float.intBitsToFloat((int) field.value()));
        case 8 -> texts.put(tag, text(only(fields(field.bytes()), 8).bytes()));
        case 9 -> {
          byte[] plugin = only(fields(field.bytes()), 1).bytes();
          if (!text(only(fields(plugin), 1).bytes()).equals("text")) {
            throw new AssertionError("another plug-in");
          }
        }
        default -> throw new AssertionError("Summary.Value has no field " + field.number());
      }
    }
  }

  private static Field only(List<Field> fields, int number) {
    List<Field> found = fields.stream().filter(field -> field.number() == number).toList();
    if (found.size() != 1) {
      throw new AssertionError("field " + number + ": " + found.size());
    }
    return found.get(0);
  }

  private static List<Field> fields(byte[] message) {
    ByteBuffer in = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN);
    List<Field> fields = new ArrayList<>();
    while (in.hasRemaining()) {
      long tag = varint(in);
      int number = (int) (tag >>> 3);
      int wireType = (int) (tag & 7);
      byte[] bytes = new byte[0];
      long value = 0;
      switch (wireType) {
        case 0 -> value = varint(in);
        case 1 -> value = in.getLong();
        case 2 -> {
          bytes = new byte[Math.toIntExact(varint(in))];
          in.get(bytes);
        }
        case 5 -> value = in.getInt();
        default -> throw new AssertionError("wire type " + wireType);
      }
      fields.add(new Field(number, wireType, value, bytes));
    }
    return fields;
  }

  private static long varint(ByteBuffer in) {
    long value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      byte b = in.get();
      value |= (long) (b & 0x7f) << shift;
      if (b >= 0) {
        return value;
      }
    }
    throw new AssertionError("a varint of more than ten bytes");
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }
}
