package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
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

  /** What each of a batch's sequences leaves out, in their order. */
  List<Shared> plan(List<Text> texts) {
    if (isNone()) {
      return IntStream.range(0, texts.size()).mapToObj(i -> new Shared(i, 0)).toList();
    }
    Map<String, List<Integer>> groups = new LinkedHashMap<>();
    for (int i = 0; i < texts.size(); i++) {
      groups.computeIfAbsent(texts.get(i).group(), g -> new ArrayList<>()).add(i);
    }
    Shared[] plan = new Shared[texts.size()];
    List<Integer> leaders = new ArrayList<>();
    for (List<Integer> group : groups.values()) {
      int first = group.get(0);
      int behindFirst = saved(group.stream().map(texts::get).toList());
      int behindOthers = group.stream().mapToInt(i -> best(texts, leaders, i).tokens()).sum();
      if (behindFirst >= behindOthers) {
        leaders.add(first);
        plan[first] = new Shared(first, 0);
      }
      for (int i : group) {
        if (plan[i] == null) {
          plan[i] = best(texts, leaders, i);
          if (plan[i].tokens() == 0) {
            leaders.add(i);
          }
        }
      }
    }
    return Arrays.asList(plan);
  }

  /**
   * Tokens that sequences of one group leave out at the least, whatever stands in front of them.
   */
  int saved(List<Text> group) {
    int saved = 0;
    for (int i = 1; i < group.size(); i++) {
      saved += shared(group.get(0), group.get(i));
    }
    return saved;
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

  private Shared best(List<Text> texts, List<Integer> leaders, int text) {
    Shared best = new Shared(text, 0);
    for (int leader : leaders) {
      int tokens = shared(texts.get(leader), texts.get(text));
      if (tokens > best.tokens()) {
        best = new Shared(leader, tokens);
      }
    }
    return best;
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
