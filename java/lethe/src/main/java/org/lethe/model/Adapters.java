package org.lethe.model;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/**
 * The adapters of a model: frozen ones by name, the view of them that it starts from, and the one
 * that trains or was given as its own. Owns them. Only the backend's thread may call it.
 */
final class Adapters implements AutoCloseable {
  /** Values that are digested at a time. */
  private static final int DIGESTED = 1 << 18;

  private final Map<String, Lora> frozen = new LinkedHashMap<>();
  private final Map<String, View> views = new LinkedHashMap<>();
  private Lora own;
  private View reference = View.BASE;

  void add(String name, Lora adapter) {
    if (frozen.putIfAbsent(name, adapter) != null) {
      adapter.close();
      throw new UserException("the model has an adapter " + name + " already; name each apart");
    }
  }

  Lora named(String name) {
    return Optional.ofNullable(frozen.get(name))
        .orElseThrow(
            () -> new InternalFaultException("no adapter " + name + " among " + frozen.keySet()));
  }

  boolean hasFrozen() {
    return !frozen.isEmpty();
  }

  void own(Lora adapter) {
    own = adapter;
  }

  /** The one that trains or was given as the model's own, or null. */
  Lora own() {
    return own;
  }

  void name(String name, View view) {
    requireOwned(view);
    views.put(name, view);
  }

  View view(String name) {
    View view = name.isEmpty() ? reference : views.get(name);
    if (view == null) {
      throw new UserException(
          "the method compares with a model named "
              + name
              + ", but views names "
              + (views.isEmpty() ? "none" : views.keySet())
              + "; give its adapter: views=[{name: "
              + name
              + ", path: DIR}]");
    }
    return view;
  }

  void startFrom(View view) {
    requireOwned(view);
    if (view.adapters().stream().anyMatch(w -> w.adapter() == own)) {
      throw new InternalFaultException("a model cannot start from the adapter that it trains");
    }
    reference = view;
  }

  View reference() {
    return reference;
  }

  /** Adds what the reference has beside the base; nothing when that is nothing. */
  void digestStart(MessageDigest digest) {
    for (View.Weighted w : reference.adapters()) {
      String facts = w.coefficient() + " " + w.adapter().config();
      digest.update(facts.getBytes(StandardCharsets.UTF_8));
      long elements = w.adapter().layout().elements();
      ByteBuffer bytes = ByteBuffer.allocate(DIGESTED * Float.BYTES);
      for (long at = 0; at < elements; at += DIGESTED) {
        int n = (int) Math.min(DIGESTED, elements - at);
        w.adapter().read(at, bytes.clear().asFloatBuffer().limit(n));
        digest.update(bytes.limit(n * Float.BYTES));
      }
    }
  }

  /** The reference with the own adapter, when there is one. */
  View all() {
    return own == null ? reference : reference.plus(own, 1);
  }

  /** Every adapter once: no view of this model has a larger rank. */
  View widest() {
    View view = own == null ? View.BASE : View.of(own);
    for (Lora adapter : frozen.values()) {
      view = view.plus(adapter, 1);
    }
    return view;
  }

  /** What was asked for of every adapter. */
  List<LoraConfig> configs() {
    return widest().adapters().stream().map(w -> w.adapter().config()).toList();
  }

  void requireOwned(View view) {
    List<View.Weighted> foreign =
        view.adapters().stream()
            .filter(w -> w.adapter() != own && !frozen.containsValue(w.adapter()))
            .toList();
    if (!foreign.isEmpty()) {
      throw new InternalFaultException("a view names " + foreign.size() + " adapters of others");
    }
  }

  @Override
  public void close() {
    frozen.values().forEach(Lora::close);
    if (own != null) {
      own.close();
    }
  }
}
