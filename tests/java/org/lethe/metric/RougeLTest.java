package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RougeLTest {
  @Test
  void countsTheLongestCommonSubsequence() {
    RougeL.Score score = RougeL.score("the cat sat on the mat", "on the mat a cat sat");
    assertEquals(new RougeL.Score(3.0 / 6, 3.0 / 6, 0.5), score);
    RougeL.Score longer = RougeL.score("a b c", "a x b y c z");
    assertEquals(0.5, longer.precision());
    assertEquals(1.0, longer.recall());
    assertEquals(2 * 0.5 / 1.5, longer.f1());
  }

  @Test
  void textsWithoutWordsScoreZero() {
    RougeL.Score none = new RougeL.Score(0, 0, 0);
    assertEquals(none, RougeL.score("", "word"));
    assertEquals(none, RougeL.score("word", " ?! "));
    assertEquals(none, RougeL.score("", ""));
    assertEquals(none, RougeL.score("one", "two"));
  }

  @Test
  void wordsAreLowerCasedSplitAndStemmed() {
    assertEquals(
        List.of("the", "author", "s", "run", "x2", "caf", "k"),
        RougeL.words("The AUTHOR's--running x2\tcafé \u212A."));
    assertEquals(List.of("was", "die"), RougeL.words("was dying"));
    assertEquals(List.of("hes", "tie"), RougeL.words("hes ties"), "no stem of three letters");
  }

  @ParameterizedTest
  @CsvSource({
    "caresses,caress",
    "ponies,poni",
    "ties,tie",
    "caress,caress",
    "cats,cat",
    "died,die",
    "cried,cri",
    "feed,feed",
    "agreed,agre",
    "plastered,plaster",
    "bled,bled",
    "motoring,motor",
    "sing,sing",
    "conflated,conflat",
    "troubled,troubl",
    "sized,size",
    "hopping,hop",
    "tanned,tan",
    "falling,fall",
    "hissing,hiss",
    "fizzed,fizz",
    "failing,fail",
    "filing,file",
    "happy,happi",
    "enjoy,enjoy",
    "sky,sky",
    "skies,sky",
    "spy,spi",
    "by,by",
    "relational,relat",
    "conditional,condit",
    "rational,ration",
    "valenci,valenc",
    "digitizer,digit",
    "conformabli,conform",
    "radicalli,radic",
    "differently,differ",
    "vileli,vile",
    "analogousli,analog",
    "vietnamization,vietnam",
    "predication,predic",
    "operator,oper",
    "feudalism,feudal",
    "decisiveness,decis",
    "hopefulness,hope",
    "callousness,callous",
    "formaliti,formal",
    "sensitiviti,sensit",
    "sensibiliti,sensibl",
    "geology,geolog",
    "hopefully,hope",
    "triplicate,triplic",
    "formative,form",
    "formalize,formal",
    "electrical,electr",
    "goodness,good",
    "revival,reviv",
    "allowance,allow",
    "inference,infer",
    "airliner,airlin",
    "adjustable,adjust",
    "defensible,defens",
    "irritant,irrit",
    "replacement,replac",
    "adjustment,adjust",
    "dependent,depend",
    "adoption,adopt",
    "communism,commun",
    "activate,activ",
    "homologous,homolog",
    "effective,effect",
    "bowdlerize,bowdler",
    "probate,probat",
    "rate,rate",
    "cease,ceas",
    "controll,control",
    "roll,roll",
    "news,news",
    "inning,inning",
    "exceed,exceed",
    "using,use",
    "owed,owe",
    "theology,theolog",
    "really,realli",
    "1990s,1990",
    "yes,ye",
    "ing,ing",
    "oaten,oaten"
  })
  void stemsAsTheNltkDoes(String word, String stem) {
    assertEquals(stem, PorterStemmer.stem(word));
  }
}
