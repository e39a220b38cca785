package org.lethe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.source.doctree.DocCommentTree;
import com.sun.source.tree.ClassTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.Tree;
import com.sun.source.util.DocTrees;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreePath;
import com.sun.source.util.TreePathScanner;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import javax.lang.model.element.Modifier;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;

/** Every public type, method and constructor of the public packages says what it is. */
class JavadocTest {
  private static final Path SOURCES =
      Path.of(System.getProperty("lethe.root"), "java/lethe/src/main/java/org/lethe");

  @Test
  void whatIsPublicIsDocumented() throws IOException {
    List<Path> files;
    try (Stream<Path> tree = Files.walk(SOURCES)) {
      files =
          tree.filter(f -> f.toString().endsWith(".java"))
              .filter(f -> !f.startsWith(SOURCES.resolve("internal")))
              .toList();
    }
    assertTrue(files.size() > 100, () -> "found " + files.size() + " sources");
    Set<String> undocumented = new TreeSet<>();
    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    try (StandardJavaFileManager manager =
        compiler.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8)) {
      JavacTask task =
          (JavacTask)
              compiler.getTask(
                  null,
                  manager,
                  null,
                  List.of("-proc:none"),
                  null,
                  manager.getJavaFileObjectsFromPaths(files));
      DocTrees docs = DocTrees.instance(task);
      for (CompilationUnitTree unit : task.parse()) {
        new Undocumented(docs, unit, undocumented).scan(unit, null);
      }
    }
    assertEquals(Set.of(), undocumented);
  }

  /** Visits what whoever embeds the library can see. */
  private static final class Undocumented extends TreePathScanner<Void, Void> {
    private final DocTrees docs;
    private final CompilationUnitTree unit;
    private final Set<String> found;

    Undocumented(DocTrees docs, CompilationUnitTree unit, Set<String> found) {
      this.docs = docs;
      this.unit = unit;
      this.found = found;
    }

    @Override
    public Void visitClass(ClassTree type, Void unused) {
      if (!isPublic(type.getModifiers().getFlags())) {
        return null;
      }
      check(type.getSimpleName().toString());
      return super.visitClass(type, null);
    }

    @Override
    public Void visitMethod(MethodTree method, Void unused) {
      boolean overrides =
          method.getModifiers().getAnnotations().stream()
              .anyMatch(a -> a.getAnnotationType().toString().equals("Override"));
      // A record's constructor is documented by its components.
      boolean ofRecord =
          method.getName().contentEquals("<init>")
              && getCurrentPath().getParentPath().getLeaf().getKind() == Tree.Kind.RECORD;
      if (isPublic(method.getModifiers().getFlags()) && !overrides && !ofRecord) {
        check(method.getName().toString());
      }
      return null;
    }

    /** What stands in an interface is public without saying so. */
    private boolean isPublic(Set<Modifier> flags) {
      TreePath parent = getCurrentPath().getParentPath();
      return flags.contains(Modifier.PUBLIC)
          || (parent.getLeaf().getKind() == Tree.Kind.INTERFACE
              && !flags.contains(Modifier.PRIVATE));
    }

    private void check(String name) {
      DocCommentTree comment = docs.getDocCommentTree(getCurrentPath());
      // A description, or at least what its parameters are.
      if (comment == null
          || (comment.getFullBody().isEmpty() && comment.getBlockTags().isEmpty())) {
        String file = unit.getSourceFile().getName();
        found.add(file.substring(file.lastIndexOf("org/lethe/")) + ": " + name);
      }
    }
  }
}
