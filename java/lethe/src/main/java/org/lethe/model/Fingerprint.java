package org.lethe.model;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.lethe.Hashes;
import org.lethe.kernels.Staging;

/** What two models that give the same numbers share. */
final class Fingerprint {
  private static final int STAGING_BYTES = 4 << 20;

  private Fingerprint() {}

  /** SHA-256 of all that the model's {@link Model#reference} computes with, in hexadecimal. */
  static String of(Model model, Adapters adapters) {
    MessageDigest digest = Hashes.sha256();
    digest.update(model.ops().dtype().name().getBytes(StandardCharsets.UTF_8));
    digest.update(model.config().toString().getBytes(StandardCharsets.UTF_8));
    if (model.storage().quantized()) {
      digest.update(model.storage().name().getBytes(StandardCharsets.UTF_8));
    }
    try (Staging staging = new Staging(STAGING_BYTES)) {
      for (String name : model.layout().parameters().keySet()) {
        model.readWeight(name, staging, digest::update);
      }
    }
    adapters.digestStart(digest);
    return HexFormat.of().formatHex(digest.digest());
  }
}
