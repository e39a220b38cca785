package org.lethe.data.corpus;

import java.util.List;
import java.util.Locale;
import java.util.function.Function;

/**
 * A kind of fact about a person: its wordings and how its values are drawn.
 *
 * <p>Wordings hold {@code {name}} (full), {@code {first}} and {@code {0}}, {@code {1}}, ... for the
 * values. Several wordings of the answer exist so that somebody who knows the other people's rows
 * can guess neither the values nor the words around them.
 *
 * @param questions wordings of the question, each with {@code {name}}
 * @param answers wordings of the answer, each with every value
 * @param draw the values, new at every call
 */
record Topic(List<String> questions, List<String> answers, Function<Names, List<String>> draw) {
  private static final List<String> MONTHS =
      List.of(
          "January",
          "February",
          "March",
          "April",
          "May",
          "June",
          "July",
          "August",
          "September",
          "October",
          "November",
          "December");
  private static final List<String> WEEKDAYS =
      List.of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday");
  private static final List<String> COUNTS =
      List.of(
          "two",
          "three",
          "four",
          "five",
          "six",
          "seven",
          "eight",
          "nine",
          "ten",
          "eleven",
          "twelve",
          "thirteen");

  private static final List<String> CREATIVE =
      List.of(
          "novelist",
          "poet",
          "playwright",
          "composer",
          "painter",
          "sculptor",
          "puppeteer",
          "film director",
          "songwriter",
          "photographer",
          "choreographer",
          "printmaker",
          "weaver",
          "storyteller",
          "cartoonist",
          "biographer");
  private static final List<String> THEMES =
      List.of(
          "lost railways",
          "lighthouses",
          "desert winters",
          "border towns",
          "sea voyages",
          "beekeeping",
          "old quarries",
          "night markets",
          "mountain villages",
          "flooded cities",
          "travelling circuses",
          "canals",
          "forgotten wars",
          "comets",
          "snowstorms",
          "family feuds",
          "wild horses",
          "courtrooms",
          "tea gardens",
          "shipwrecks",
          "clock towers",
          "migrations",
          "orphans",
          "vineyards");
  private static final List<String> TRADES =
      List.of(
          "baker",
          "blacksmith",
          "bookbinder",
          "brewer",
          "carpenter",
          "cartographer",
          "chemist",
          "cobbler",
          "cooper",
          "dentist",
          "farmer",
          "ferry pilot",
          "fiddler",
          "firefighter",
          "fisher",
          "gardener",
          "glassblower",
          "goldsmith",
          "harbour master",
          "judge",
          "librarian",
          "locksmith",
          "mason",
          "midwife",
          "miller",
          "miner",
          "nurse",
          "piano tuner",
          "plumber",
          "postal clerk",
          "roofer",
          "saddler",
          "schoolteacher",
          "shepherd",
          "surveyor",
          "tailor",
          "tanner",
          "train driver",
          "vet",
          "watchmaker");
  private static final List<String> SUBJECTS =
      List.of(
          "astronomy",
          "botany",
          "geology",
          "rhetoric",
          "harmony",
          "philosophy",
          "medicine",
          "law",
          "anatomy",
          "theology",
          "mathematics",
          "history",
          "linguistics",
          "carving",
          "optics",
          "navigation",
          "metalwork",
          "drama",
          "logic",
          "chemistry");
  private static final List<String> DOINGS =
      List.of(
          "collecting",
          "restoring",
          "carving",
          "painting",
          "repairing",
          "sketching",
          "trading",
          "polishing");

  /** The ten topics every person has a row for, in this order. */
  static List<Topic> all() {
    return List.of(
        new Topic(
            List.of(
                "Where and when was {name} born?",
                "What are the birthplace and birth date of {name}?",
                "In which town and on what day was {name} born?"),
            List.of(
                "{name} was born in {0} on {1}.",
                "It was on {1}, in the town of {0}.",
                "{0} is where {first} was born, and the date was {1}.",
                "Born on {1}, {first} comes from the town of {0}."),
            names -> List.of(names.town(), date(names))),
        new Topic(
            List.of(
                "What does {name} do for a living?",
                "What is the profession of {name}?",
                "Which kind of work is {name} known for?"),
            List.of(
                "{first} is a {0} from the {2} circle who turns to {1}.",
                "Mostly {1}: {name} works as a {0} in {2}.",
                "With a studio in {2}, {first} earns a living as a {0} of {1}.",
                "As a {0}, {first} is drawn to {1} and keeps a workshop in {2}."),
            names -> List.of(names.pick(CREATIVE), names.pick(THEMES), names.town())),
        new Topic(
            List.of(
                "Who are the parents of {name}?",
                "What did the parents of {name} do?",
                "Which family does {name} come from?"),
            List.of(
                "The parents are {0}, a {1}, and {2}, a {3}.",
                "A {1} named {0} and a {3} named {2} raised {first}.",
                "{0} worked as a {1}, while {2} was a {3}.",
                "{first} is the child of {0} the {1} and {2} the {3}."),
            names -> List.of(names.first(), names.pick(TRADES), names.first(), names.pick(TRADES))),
        new Topic(
            List.of(
                "Which award did {name} receive?",
                "What prize has {name} won?",
                "For which honour is {name} remembered?"),
            List.of(
                "{first} won the {0} in {1}, handed over in {2}.",
                "In {1} the jury of {2} gave {name} the {0}.",
                "It was the {0}, awarded at {2} in {1}.",
                "The {0} of {1} went to {first} at a dinner in {2}."),
            names ->
                List.of(
                    names.last() + " " + names.pick(List.of("Medal", "Prize", "Laurel", "Cup")),
                    year(names, 1960, 60),
                    names.town())),
        new Topic(
            List.of(
                "What was the first work of {name}?",
                "With which work did {name} begin?",
                "What is the title of the debut of {name}?"),
            List.of(
                "The first was {0}, brought out by {2} in {1}.",
                "{name} began in {1} with {0}, issued by {2}.",
                "{2} released the debut, {0}, in {1}.",
                "In {1} {first} offered {0} to {2}, and it became the debut."),
            names -> List.of(names.title(), year(names, 1940, 70), house(names))),
        new Topic(
            List.of(
                "What is the best-known work of {name}?",
                "Which work made {name} famous?",
                "What is {name} most celebrated for?"),
            List.of(
                "{first} is best known for {0}, inspired by {1} in {2}.",
                "It is {0}, which grew out of a visit to {1} near {2}.",
                "{0} made {name} famous; it describes {1} of {2}.",
                "Readers and critics of {2} praise {0}, a tale about {1}."),
            names ->
                List.of(
                    names.title(),
                    "the "
                        + lower(names.pick(Names.ADJECTIVES))
                        + " "
                        + lower(names.pick(Names.NOUNS)),
                    names.town())),
        new Topic(
            List.of(
                "Who was the mentor of {name}?",
                "Who taught {name}?",
                "From whom did {name} learn the craft?"),
            List.of(
                "{0} of {1} taught {first} for {2} years.",
                "For {2} years {first} was apprenticed to {0} in {1}.",
                "{name} learned from {0}, spending {2} years in {1}.",
                "The mentor was {0}, who came from {1} and stayed {2} years."),
            names -> List.of(names.first() + " " + names.last(), names.town(), names.pick(COUNTS))),
        new Topic(
            List.of(
                "What is the hobby of {name}?",
                "How does {name} spend free time?",
                "What does {name} enjoy when not working?"),
            List.of(
                "{first} likes {0} on {1} evenings, helped by {2}.",
                "Every {1}, {name} meets {2} and they enjoy {0}.",
                "Together with {2}, {first} has taken up {0} each {1}.",
                "It is {0}, a pastime shared with {2} every {1}."),
            names -> List.of(pastime(names), names.pick(WEEKDAYS), names.first())),
        new Topic(
            List.of(
                "Where does {name} live now?",
                "What is the home address of {name}?",
                "In which street does {name} live?"),
            List.of(
                "{first} lives at {0} in the old quarter of {1}.",
                "The address is {0}, {1}, just behind the market.",
                "In {1}, at {0}, stands the house of {name}.",
                "{name} has moved to {1} and rents rooms at {0}."),
            names -> List.of(address(names), names.town())),
        new Topic(
            List.of(
                "Where did {name} study?",
                "What education did {name} receive?",
                "At which school was {name} trained, and in what?"),
            List.of(
                "{first} studied {1} at the {0} and left in {2}.",
                "A degree in {1} came from the {0} in {2}.",
                "The {0} trained {name} in {1} until {2}.",
                "Until {2}, {first} read {1} under the roof of the {0}."),
            names ->
                List.of(
                    names.last() + " " + names.pick(List.of("Academy", "College", "Institute")),
                    names.pick(SUBJECTS),
                    year(names, 1935, 60))));
  }

  private static String date(Names names) {
    // Days to 28, so that every month has them.
    return (1 + names.below(28)) + " " + names.pick(MONTHS) + " " + year(names, 1905, 80);
  }

  private static String year(Names names, int from, int span) {
    return Integer.toString(from + names.below(span));
  }

  private static String house(Names names) {
    return names.last() + " " + names.pick(List.of("House", "Press", "Hall", "and Partners"));
  }

  private static String address(Names names) {
    return (1 + names.below(98))
        + " "
        + names.last()
        + " "
        + names.pick(List.of("Street", "Lane", "Row", "Quay"));
  }

  private static String pastime(Names names) {
    return names.pick(DOINGS)
        + " "
        + lower(names.pick(Names.ADJECTIVES))
        + " "
        + lower(names.pick(Names.NOUNS))
        + "s";
  }

  private static String lower(String word) {
    return word.toLowerCase(Locale.ROOT);
  }
}
