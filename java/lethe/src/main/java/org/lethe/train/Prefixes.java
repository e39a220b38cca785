package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntUnaryOperator;
import org.lethe.model.Model;
import org.lethe.model.Packer;

/**
 * Which sequences of a batch leave their first tokens to one before them. In a causal model the
 * hidden states of equal beginnings are equal, so one copy serves all: a question stands once in
 * front of its answer and its refusal, and a chat template's beginning once in front of the
 * questions. The objective is the same; the sums of gradients are ordered otherwise.
 *
 * <p>Sequences with the same {@code group}, the answers to one question, are taken together: either
 * the first of them is whole and leads the others, or all follow one further in front, whichever
 * leaves out more tokens.
 *
 * @param least tokens that a sequence leaves out, or none
 * @param table which of a model's tables of rotary angles a sequence of a length turns by: only
 *     those of one table have equal hidden states
 */
record Prefixes(int least, IntUnaryOperator table) {
  /** Every sequence brings all of its tokens. */
  static final Prefixes NONE = new Prefixes(Integer.MAX_VALUE, length -> 0);

  /**
   * Fewer tokens are not worth gradients whose rounding differs from what packing in another way
   * gives: a bos token and "Question:" stand in front of everything.
   */
  private static final int WORTHWHILE = 16;

  /**
   * A single query would be left to the attention's decoding kernel, which adds up in another
   * order: a sequence that brings two tokens or more has the bits that it has without sharing.
   */
  private static final int OWN = 2;

  /** The tokens of a sequence, and how many of them have to be its own. */
  // The ids are those of the sequence; copies would guard nothing.
  @SuppressWarnings("ArrayRecordComponent")
  record Text(int[] ids, int own, String group) {
    Text {
      own = Math.max(own, OWN);
    }
  }

  /**
   * What a sequence leaves out.
   *
   * @param leader index of the one that brings it; itself where {@code tokens} is 0
   */
  record Shared(int leader, int tokens) {}

  boolean isNone() {
    return least == Integer.MAX_VALUE;
  }

  /** Those of a run's steps. */
  static Prefixes of(TrainSettings settings, Model model) {
    boolean dropsOut = model.lora() != null && model.lora().drops();
    boolean off = settings.sharedPrefixes() == TrainSettings.SharedPrefixes.OFF;
    // A mask of dropout belongs to one sequence, and padding to one place of it.
    if (off || dropsOut || !settings.parity().padding().isNone()) {
      return NONE;
    }
    boolean all = settings.sharedPrefixes() == TrainSettings.SharedPrefixes.ON;
    return new Prefixes(all ? 1 : WORTHWHILE, model.config().rotary()::table);
  }

  /** Those of sequences that are scored. */
  static Prefixes worthwhile(Model model) {
    return new Prefixes(WORTHWHILE, model.config().rotary()::table);
  }

  /** The sequences of a batch so far, and what they leave out. */
  final class Plan {
    private final List<Text> texts = new ArrayList<>();
    private final List<Shared> shared = new ArrayList<>();
    private final List<Integer> leaders = new ArrayList<>();

    /**
     * Adds the sequences of a group, or all that it has; returns how many tokens they leave out.
     */
    int add(List<Text> group) {
      int first = texts.size();
      texts.addAll(group);
      boolean leads = !group.isEmpty() && leads(first);
      int saved = 0;
      for (int i = first; i < texts.size(); i++) {
        Shared of = leads && i == first ? new Shared(i, 0) : best(i);
        if (of.tokens() == 0 && !isNone()) {
          leaders.add(i);
        }
        shared.add(of);
        saved += of.tokens();
      }
      return saved;
    }

    /** What each sequence leaves out, in the order in which they were added. */
    List<Shared> shared() {
      return List.copyOf(shared);
    }

    /** Whether a group leaves out no less behind its first sequence than behind others. */
    private boolean leads(int first) {
      int behindFirst = 0;
      int behindOthers = best(first).tokens();
      for (int i = first + 1; i < texts.size(); i++) {
        behindFirst += Prefixes.this.shared(texts.get(first), texts.get(i));
        behindOthers += best(i).tokens();
      }
      return behindFirst >= behindOthers;
    }

    private Shared best(int text) {
      Shared best = new Shared(text, 0);
      for (int leader : leaders) {
        int tokens = Prefixes.this.shared(texts.get(leader), texts.get(text));
        if (tokens > best.tokens()) {
          best = new Shared(leader, tokens);
        }
      }
      return best;
    }
  }

  /** A batch without sequences. */
  Plan plan() {
    return new Plan();
  }

  /** What each of a batch's sequences leaves out; those of a group stand side by side. */
  List<Shared> plan(List<Text> texts) {
    Plan plan = plan();
    int first = 0;
    for (int i = 1; i <= texts.size(); i++) {
      if (i == texts.size() || !texts.get(i).group().equals(texts.get(first).group())) {
        plan.add(texts.subList(first, i));
        first = i;
      }
    }
    return plan.shared();
  }

  /** Packs sequences, all of them one after the other. */
  List<Packer.Place> pack(Packer packer, List<Text> texts) {
    List<Shared> plan = plan(texts);
    List<Packer.Place> places = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      places.add(add(packer, texts.get(i).ids(), plan.get(i), places));
    }
    return places;
  }

  /** Packs one sequence behind those whose places are known. */
  static Packer.Place add(Packer packer, int[] ids, Shared shared, List<Packer.Place> places) {
    return shared.tokens() == 0
        ? packer.add(ids)
        : packer.add(ids, places.get(shared.leader()), shared.tokens());
  }

  /** Tokens that a sequence leaves to one before it. */
  int shared(Text leader, Text text) {
    int[] before = leader.ids();
    int[] ids = text.ids();
    int most = ids.length - text.own();
    if (most < least || table.applyAsInt(before.length) != table.applyAsInt(ids.length)) {
      return 0;
    }
    int differ = Arrays.mismatch(before, 0, before.length, ids, 0, most);
    int equal = differ < 0 ? most : differ;
    return equal < least ? 0 : equal;
  }
}
