package org.lethe.torch;

import java.util.Arrays;
import java.util.Iterator;
import java.util.function.Supplier;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;

/**
 * Who frees a pointer of JavaCPP's: the innermost {@code PointerScope} of the thread takes every
 * new one, which is wrong for what an object keeps beyond the call that makes it.
 */
final class Ownership {
  private Ownership() {}

  /** A pointer that {@code close} frees, and no scope around this call. */
  @SuppressWarnings("try") // The scope works by being open.
  static <P extends Pointer> P own(Supplier<P> create) {
    try (PointerScope scope = new PointerScope()) {
      return keep(create.get());
    }
  }

  /** Inside a scope of this module's: the pointer stays when the scope ends. */
  static <P extends Pointer> P keep(P created) {
    created.retainReference();
    return created;
  }

  /**
   * Gives an owned pointer to the caller: to the innermost scope that would have taken it, had the
   * caller made it. Without one it remains owned, and the caller closes it.
   */
  static <P extends Pointer> P handOver(P owned) {
    Iterator<PointerScope> scopes = PointerScope.getScopeIterator();
    while (scopes.hasNext()) {
      PointerScope scope = scopes.next();
      Class<? extends Pointer>[] only = scope.forClasses();
      if (only == null
          || only.length == 0
          || Arrays.stream(only).anyMatch(type -> type != null && type.isInstance(owned))) {
        scope.attach(owned);
        owned.releaseReference();
        return owned;
      }
    }
    return owned;
  }
}
