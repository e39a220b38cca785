package org.lethe.data.corpus;

import java.nio.charset.StandardCharsets;

/**
 * GPT-2's printable alphabet for bytes: printable Latin-1 bytes stand for themselves, the other 68
 * are shifted to U+0100 and up in the order of their values.
 */
final class ByteAlphabet {
  private static final int BYTES = 256;

  private final char[] symbols = new char[BYTES];

  ByteAlphabet() {
    int shifted = 0;
    for (int b = 0; b < BYTES; b++) {
      boolean printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      symbols[b] = (char) (printable ? b : BYTES + shifted++);
    }
  }

  /** The symbol of a byte, 0 to 255. */
  String symbol(int value) {
    return String.valueOf(symbols[value]);
  }

  /** A text's UTF-8 bytes, spelt in the alphabet. */
  String spell(String text) {
    StringBuilder out = new StringBuilder();
    for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
      out.append(symbols[b & 0xFF]);
    }
    return out.toString();
  }
}
