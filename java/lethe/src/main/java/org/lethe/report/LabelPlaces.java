package org.lethe.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Finds places for words beside marks, so that nothing lies over anything else. In pixels. */
final class LabelPlaces {
  private static final double HEIGHT = 14;
  private static final double GAP = 4;

  /** Of the height, above the baseline. */
  private static final double ASCENT = 0.8;

  private record Box(double left, double top, double right, double bottom) {
    boolean overlaps(Box other) {
      return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
    }

    boolean isInside(Box other) {
      return left >= other.left
          && right <= other.right
          && top >= other.top
          && bottom <= other.bottom;
    }
  }

  /** Where words begin. */
  record Place(double left, double baseline) {}

  private final Box frame;
  private final double letter;
  private final List<Box> taken = new ArrayList<>();

  /**
   * @param letter width of one
   */
  LabelPlaces(double left, double top, double right, double bottom, double letter) {
    this.frame = new Box(left, top, right, bottom);
    this.letter = letter;
  }

  /** Keeps words away from a mark. */
  void occupy(double x, double y, double radius) {
    taken.add(new Box(x - radius, y - radius, x + radius, y + radius));
  }

  /** A free place near a mark, which is then taken; empty where there is none. */
  Optional<Place> place(double x, double y, double radius, String words) {
    double width = words.codePointCount(0, words.length()) * letter;
    double near = radius + GAP;
    double[][] corners = {
      {x + near, y - HEIGHT / 2},
      {x - near - width, y - HEIGHT / 2},
      {x - width / 2, y - near - HEIGHT},
      {x - width / 2, y + near},
      {x + near / 2, y - near - HEIGHT / 2},
      {x + near / 2, y + near - HEIGHT / 2},
      {x - near / 2 - width, y - near - HEIGHT / 2},
      {x - near / 2 - width, y + near - HEIGHT / 2}
    };
    for (double[] corner : corners) {
      Box box = new Box(corner[0], corner[1], corner[0] + width, corner[1] + HEIGHT);
      if (box.isInside(frame) && taken.stream().noneMatch(box::overlaps)) {
        taken.add(box);
        return Optional.of(new Place(box.left(), box.top() + ASCENT * HEIGHT));
      }
    }
    return Optional.empty();
  }
}
