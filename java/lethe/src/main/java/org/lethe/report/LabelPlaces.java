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

  /**
   * Where words stand.
   *
   * @param anchor what lies at x: start, middle or end of the words, as SVG says it
   */
  record Place(String anchor, double x, double baseline) {}

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

  /** Keeps words away from a line along one of the axes. */
  void occupy(double x1, double y1, double x2, double y2) {
    taken.add(
        new Box(
            Math.min(x1, x2) - 1,
            Math.min(y1, y2) - 1,
            Math.max(x1, x2) + 1,
            Math.max(y1, y2) + 1));
  }

  /** A free place near a mark, which is then taken; empty where there is none. */
  Optional<Place> place(double x, double y, double radius, String words) {
    double width = words.codePointCount(0, words.length()) * letter;
    double near = radius + GAP;
    double slope = near * 0.7;
    for (Place place :
        List.of(
            new Place("start", x + near, y),
            new Place("end", x - near, y),
            new Place("middle", x, y - near - HEIGHT / 2),
            new Place("middle", x, y + near + HEIGHT / 2),
            new Place("start", x + slope, y - slope - HEIGHT / 3),
            new Place("start", x + slope, y + slope + HEIGHT / 3),
            new Place("end", x - slope, y - slope - HEIGHT / 3),
            new Place("end", x - slope, y + slope + HEIGHT / 3))) {
      double middle = place.baseline();
      double left =
          switch (place.anchor()) {
            case "start" -> place.x();
            case "end" -> place.x() - width;
            default -> place.x() - width / 2;
          };
      Box box = new Box(left, middle - HEIGHT / 2, left + width, middle + HEIGHT / 2);
      if (box.isInside(frame) && taken.stream().noneMatch(box::overlaps)) {
        taken.add(box);
        double baseline = box.top() + ASCENT * HEIGHT;
        return Optional.of(new Place(place.anchor(), place.x(), baseline));
      }
    }
    return Optional.empty();
  }
}
