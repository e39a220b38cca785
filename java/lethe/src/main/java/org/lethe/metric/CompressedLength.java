package org.lethe.metric;

import java.nio.charset.StandardCharsets;
import java.util.zip.Deflater;

/**
 * How many bytes zlib needs for a text: what a text's likelihood is compared with, since repetitive
 * texts are likely without having been seen (Carlini et al., arXiv 2012.07805).
 */
public final class CompressedLength {
  private static final int CHUNK = 4096;

  private CompressedLength() {}

  /** Bytes of the text in UTF-8, compressed at zlib's default level, header included. */
  public static int of(String text) {
    Deflater deflater = new Deflater();
    try {
      deflater.setInput(text.getBytes(StandardCharsets.UTF_8));
      deflater.finish();
      byte[] chunk = new byte[CHUNK];
      int length = 0;
      while (!deflater.finished()) {
        length += deflater.deflate(chunk);
      }
      return length;
    } finally {
      deflater.end();
    }
  }
}
