package org.lethe.run;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;
import org.lethe.InternalFaultException;

/** Lethe's own version. */
public final class Version {
  private Version() {}

  /** As the build named it. */
  public static String string() {
    try (InputStream in = Version.class.getResourceAsStream("/org/lethe/version.properties")) {
      Properties properties = new Properties();
      properties.load(in);
      return properties.getProperty("version");
    } catch (IOException e) {
      throw new InternalFaultException("version.properties cannot be read", e);
    }
  }
}
