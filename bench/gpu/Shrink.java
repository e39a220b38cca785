import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
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
 * META-INF/services to what stands in it. Run by {@code java Shrink.java}: nothing else of the build needs it.
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
      boolean stays = whole.stream().anyMatch(jar.getFileName().toString()::startsWith);
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
      }
    }
    System.out.println("shrink: " + deleted + " of " + classes.size() + " classes are reached by nothing");
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
}
