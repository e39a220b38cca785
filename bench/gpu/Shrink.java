import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Deletes the classes that nothing can reach: {@code Shrink DIRECTORY WHOLE ...}. DIRECTORY has a folder for each jar, its
 * content unpacked; those whose names begin with a WHOLE stay as they are, and of the others stays what they lead to. A class
 * leads to every class that one of its strings names, in whichever way, so that reflection by name counts; a file of
 * META-INF/services to what stands in it. What stays of those others loses its line numbers and names of variables, too. Run
 * by {@code java Shrink.java}: nothing else of the build needs it.
 */
final class Shrink {
  private Shrink() {}

  public static void main(String[] args) throws IOException {
    Path directory = Path.of(args[0]);
    List<String> whole = List.of(args).subList(1, args.length);
    Map<String, Path> classes = new HashMap<>();
    Deque<String> reached = new ArrayDeque<>();
    Set<String> kept = new HashSet<>();
    for (Path jar : list(directory)) {
      boolean stays = isWhole(directory, jar, whole);
      for (Path file : files(jar)) {
        String name = jar.relativize(file).toString();
        if (name.endsWith(".class")) {
          String of = name.substring(0, name.length() - ".class".length());
          classes.put(of, file);
          if (stays && kept.add(of)) {
            reached.add(of);
          }
        } else if (name.startsWith("META-INF/services/")) {
          for (String line : Files.readAllLines(file)) {
            String service = line.replaceAll("#.*", "").strip().replace('.', '/');
            if (kept.add(service)) {
              reached.add(service);
            }
          }
        }
      }
    }
    while (!reached.isEmpty()) {
      Path file = classes.get(reached.pop());
      if (file == null) {
        continue;
      }
      for (String text : strings(Files.readAllBytes(file))) {
        for (String token : text.replace('.', '/').split("[^\\w/$]+")) {
          // A descriptor's L stands before the name.
          for (String name : new String[] {token, token.replaceFirst("^\\W*\\[*L", "")}) {
            if (classes.containsKey(name) && kept.add(name)) {
              reached.add(name);
            }
          }
        }
      }
    }
    int deleted = 0;
    for (Map.Entry<String, Path> each : classes.entrySet()) {
      // What is inside a class is found by its name alone at times.
      String outer = each.getKey().replaceFirst("\\$.*", "");
      boolean stays = kept.contains(each.getKey()) || each.getKey().contains("-info");
      if (!stays && !(kept.contains(outer) && each.getKey().contains("$"))) {
        Files.delete(each.getValue());
        deleted++;
      } else if (!isWhole(directory, each.getValue(), whole)) {
        Files.write(each.getValue(), withoutDebug(Files.readAllBytes(each.getValue())));
      }
    }
    System.out.println("shrink: " + deleted + " of " + classes.size() + " classes are reached by nothing");
  }

  private static boolean isWhole(Path directory, Path file, List<String> whole) {
    String jar = directory.relativize(file).getName(0).toString();
    return whole.stream().anyMatch(jar::startsWith);
  }

  private static List<Path> list(Path directory) throws IOException {
    try (Stream<Path> all = Files.list(directory)) {
      return all.toList();
    }
  }

  private static List<Path> files(Path directory) throws IOException {
    try (Stream<Path> all = Files.walk(directory)) {
      return all.filter(Files::isRegularFile).toList();
    }
  }

  /** All strings of a class's constant pool (JVMS 4.4). */
  private static Set<String> strings(byte[] content) throws IOException {
    Set<String> found = new HashSet<>();
    try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(content))) {
      in.skipBytes(8);
      int count = in.readUnsignedShort();
      for (int i = 1; i < count; i++) {
        int tag = in.readUnsignedByte();
        switch (tag) {
          case 1 -> found.add(in.readUTF());
          case 3, 4, 9, 10, 11, 12, 17, 18 -> in.skipBytes(4);
          case 5, 6 -> {
            in.skipBytes(8);
            // Long and double take two places.
            i++;
          }
          case 7, 8, 16, 19, 20 -> in.skipBytes(2);
          case 15 -> in.skipBytes(3);
          default -> throw new IOException("constant of an unknown kind, " + tag);
        }
      }
    }
    return found;
  }

  private static final Set<String> DEBUG =
      Set.of("LineNumberTable", "LocalVariableTable", "LocalVariableTypeTable");

  /** The class without what only debuggers and stack traces read (JVMS 4.7). */
  private static byte[] withoutDebug(byte[] content) throws IOException {
    ByteArrayOutputStream result = new ByteArrayOutputStream(content.length);
    try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(content));
        DataOutputStream out = new DataOutputStream(result)) {
      copy(in, out, 8);
      int count = copyShort(in, out);
      String[] names = new String[count];
      for (int i = 1; i < count; i++) {
        int tag = in.readUnsignedByte();
        out.writeByte(tag);
        switch (tag) {
          case 1 -> {
            names[i] = in.readUTF();
            out.writeUTF(names[i]);
          }
          case 3, 4, 9, 10, 11, 12, 17, 18 -> copy(in, out, 4);
          case 5, 6 -> {
            copy(in, out, 8);
            i++;
          }
          case 7, 8, 16, 19, 20 -> copy(in, out, 2);
          case 15 -> copy(in, out, 3);
          default -> throw new IOException("constant of an unknown kind, " + tag);
        }
      }
      copy(in, out, 6);
      int interfaces = copyShort(in, out);
      copy(in, out, 2 * interfaces);
      for (int kind = 0; kind < 2; kind++) {
        int members = copyShort(in, out);
        for (int i = 0; i < members; i++) {
          copy(in, out, 6);
          attributes(in, out, names);
        }
      }
      attributes(in, out, names);
    }
    return result.toByteArray();
  }

  private static void attributes(DataInputStream in, DataOutputStream out, String[] names) throws IOException {
    int count = in.readUnsignedShort();
    ByteArrayOutputStream kept = new ByteArrayOutputStream();
    DataOutputStream to = new DataOutputStream(kept);
    int stay = 0;
    for (int i = 0; i < count; i++) {
      int name = in.readUnsignedShort();
      byte[] content = in.readNBytes(in.readInt());
      if (DEBUG.contains(names[name])) {
        continue;
      }
      if (names[name].equals("Code")) {
        content = code(content, names);
      }
      stay++;
      to.writeShort(name);
      to.writeInt(content.length);
      to.write(content);
    }
    out.writeShort(stay);
    kept.writeTo(out);
  }

  private static byte[] code(byte[] content, String[] names) throws IOException {
    ByteArrayOutputStream result = new ByteArrayOutputStream(content.length);
    try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(content));
        DataOutputStream out = new DataOutputStream(result)) {
      copy(in, out, 4);
      int length = in.readInt();
      out.writeInt(length);
      copy(in, out, length);
      int handlers = copyShort(in, out);
      copy(in, out, 8 * handlers);
      attributes(in, out, names);
    }
    return result.toByteArray();
  }

  private static int copyShort(DataInputStream in, DataOutputStream out) throws IOException {
    int value = in.readUnsignedShort();
    out.writeShort(value);
    return value;
  }

  private static void copy(DataInputStream in, DataOutputStream out, int bytes) throws IOException {
    out.write(in.readNBytes(bytes));
  }
}
