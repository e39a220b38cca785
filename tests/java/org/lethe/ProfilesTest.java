package org.lethe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * Builds that ask for tests of one tag, or for some classes, run through: no module without such
 * tests ends them, and the module that has them does when none is found.
 */
class ProfilesTest {
  private static final Path ROOT = Path.of(System.getProperty("lethe.root"));
  private static final String PROPERTY = "lethe.modules.have.tests";

  @Test
  void aBuildOfSomeTestsPassesModulesThatHaveNoSuchTests() throws Exception {
    List<String> tagged = new ArrayList<>();
    for (Element profile : elements(pom("."), "profile")) {
      String id = text(profile, "id");
      // -Dtest=... chooses classes.
      if (id.equals("classes") || !elements(profile, "groups").isEmpty()) {
        tagged.add(id);
        assertEquals("false", text(profile, PROPERTY), "profile " + id);
      }
    }
    assertTrue(tagged.containsAll(List.of("classes", "tofu")), tagged.toString());
  }

  @Test
  void aModuleWithoutTestsFailsByThatPropertyAlone() throws Exception {
    int asked = 0;
    for (Element module : elements(pom("."), "module")) {
      String name = module.getTextContent();
      for (Element rule : elements(pom(name), "failIfNoTests")) {
        String wanted = name.equals("tests") ? "true" : "${" + PROPERTY + "}";
        assertEquals(wanted, rule.getTextContent(), name + "/pom.xml");
        asked++;
      }
    }
    assertEquals(4, asked, "modules that must have tests");
  }

  private static Element pom(String module) throws Exception {
    Document document =
        DocumentBuilderFactory.newInstance()
            .newDocumentBuilder()
            .parse(ROOT.resolve(module).resolve("pom.xml").toFile());
    return document.getDocumentElement();
  }

  private static List<Element> elements(Element parent, String name) {
    NodeList found = parent.getElementsByTagName(name);
    List<Element> elements = new ArrayList<>();
    for (int i = 0; i < found.getLength(); i++) {
      elements.add((Element) found.item(i));
    }
    return elements;
  }

  private static String text(Element parent, String name) {
    List<Element> found = elements(parent, name);
    return found.isEmpty() ? "" : found.get(0).getTextContent();
  }
}
