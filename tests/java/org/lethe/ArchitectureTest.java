package org.lethe;

import static com.tngtech.archunit.core.domain.JavaCall.Predicates.target;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideOutsideOfPackages;
import static com.tngtech.archunit.core.domain.properties.HasName.Predicates.name;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noMethods;
import static com.tngtech.archunit.library.Architectures.layeredArchitecture;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;

import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaMethod;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.junit.AnalyzeClasses;
import com.tngtech.archunit.junit.ArchTest;
import com.tngtech.archunit.lang.ArchCondition;
import com.tngtech.archunit.lang.ArchRule;
import com.tngtech.archunit.lang.ConditionEvents;
import com.tngtech.archunit.lang.SimpleConditionEvent;
import com.tngtech.archunit.library.dependencies.SliceAssignment;
import com.tngtech.archunit.library.dependencies.SliceIdentifier;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.util.HashSet;
import java.util.Set;

/** Holds the direction of imports and a few bans; packages that do not exist yet are allowed. */
@AnalyzeClasses(packages = "org.lethe", importOptions = ImportOption.DoNotIncludeTests.class)
class ArchitectureTest {
  private static final String[] NATIVE = {
    "org.lethe.kernels..", "org.lethe.internal.abi..", "org.bytedeco..", "java.lang.foreign.."
  };

  private static final String INTERNAL = "org.lethe.internal..";

  @ArchTest
  static final ArchRule importsRunOneWay =
      layeredArchitecture()
          .consideringOnlyDependenciesInAnyPackage("org.lethe..")
          .withOptionalLayers(true)
          .layer("cli")
          .definedBy("org.lethe.internal.cli..")
          .layer("run")
          .definedBy("org.lethe.run..", "org.lethe.engine..")
          .layer("results")
          .definedBy("org.lethe.evaluate..", "org.lethe.checkpoint..", "org.lethe.report..")
          .layer("work")
          .definedBy("org.lethe.train..", "org.lethe.metric..")
          .layer("parts")
          .definedBy("org.lethe.method..", "org.lethe.model..", "org.lethe.data..")
          .layer("kernels")
          .definedBy("org.lethe.kernels..", "org.lethe.internal.abi..")
          .layer("config")
          .definedBy("org.lethe.config..")
          .layer("exceptions")
          .definedBy("org.lethe")
          .whereLayer("cli")
          .mayNotBeAccessedByAnyLayer()
          .whereLayer("run")
          .mayOnlyBeAccessedByLayers("cli")
          .whereLayer("results")
          .mayOnlyBeAccessedByLayers("cli", "run")
          .whereLayer("work")
          .mayOnlyBeAccessedByLayers("cli", "run", "results")
          .whereLayer("parts")
          .mayOnlyBeAccessedByLayers("cli", "run", "results", "work")
          .whereLayer("kernels")
          .mayOnlyBeAccessedByLayers("cli", "run", "results", "work", "parts")
          .whereLayer("config")
          .mayOnlyAccessLayers("exceptions")
          .whereLayer("exceptions")
          .mayNotAccessAnyLayer()
          .ensureAllClassesAreContainedInArchitecture();

  @ArchTest
  static final ArchRule packagesFormNoCycle =
      slices().assignedFrom(packages()).should().beFreeOfCycles();

  /** Whoever embeds Lethe sees nothing of what may change without notice. */
  @ArchTest
  static final ArchRule publicPackagesDoNotShowInternalTypes =
      noMethods()
          .that()
          .arePublic()
          .and()
          .areDeclaredInClassesThat()
          .arePublic()
          .and()
          .areDeclaredInClassesThat()
          .resideOutsideOfPackage(INTERNAL)
          .should(haveInternalTypesInTheirSignature());

  @ArchTest
  static final ArchRule methodsArePure =
      noClasses()
          .that()
          .resideInAPackage("org.lethe.method..")
          .should()
          .dependOnClassesThat(
              resideInAnyPackage(NATIVE)
                  .or(resideInAnyPackage("org.lethe.model..", "org.lethe.data..", "ai.djl..")))
          .allowEmptyShould(true);

  @ArchTest
  static final ArchRule configAndDataKnowNoDevice =
      noClasses()
          .that()
          .resideInAnyPackage("org.lethe.config..", "org.lethe.data..")
          .should()
          .dependOnClassesThat(
              resideInAnyPackage(NATIVE).or(resideInAnyPackage("org.lethe.model..")));

  @ArchTest
  static final ArchRule onlyKernelsCallJavaCpp =
      noClasses()
          .that()
          .resideOutsideOfPackages("org.lethe.kernels..", "org.lethe.internal.abi..")
          .should()
          .dependOnClassesThat()
          .resideInAPackage("org.bytedeco..");

  @ArchTest
  static final ArchRule onlyKernelsSeeTheBinding =
      noClasses()
          .that()
          .resideOutsideOfPackages("org.lethe.kernels..", "org.lethe.internal.abi..")
          .should()
          .dependOnClassesThat()
          .resideInAPackage("org.lethe.internal.abi..");

  @ArchTest
  static final ArchRule onlyMainExits =
      noClasses()
          .that()
          .doNotHaveFullyQualifiedName("org.lethe.internal.cli.Main")
          .should()
          .callMethod(System.class, "exit", int.class)
          .orShould()
          .callMethod(Runtime.class, "exit", int.class)
          .orShould()
          .callMethod(Runtime.class, "halt", int.class);

  @ArchTest
  static final ArchRule nothingIsSerialised =
      noClasses()
          .should()
          .dependOnClassesThat(
              name(ObjectInputStream.class.getName()).or(name(ObjectOutputStream.class.getName())));

  @ArchTest
  static final ArchRule onlyTheCommandLinePrints =
      noClasses()
          .that(resideOutsideOfPackages("org.lethe.internal.cli.."))
          .should()
          .accessField(System.class, "out")
          .orShould()
          .accessField(System.class, "err")
          .orShould()
          .callMethodWhere(target(name("printStackTrace")));

  /** A package of {@code internal} is a slice of its own; of the others, the first name is. */
  private static SliceAssignment packages() {
    return new SliceAssignment() {
      @Override
      public SliceIdentifier getIdentifierOf(JavaClass type) {
        String[] names = type.getPackageName().split("\\.", -1);
        if (names.length < 3) {
          return SliceIdentifier.ignore();
        }
        return names[2].equals("internal") && names.length > 3
            ? SliceIdentifier.of(names[2], names[3])
            : SliceIdentifier.of(names[2]);
      }

      @Override
      public String getDescription() {
        return "packages of Lethe";
      }
    };
  }

  private static ArchCondition<JavaMethod> haveInternalTypesInTheirSignature() {
    return new ArchCondition<>("have internal types in their signature") {
      @Override
      public void check(JavaMethod method, ConditionEvents events) {
        Set<JavaClass> types = new HashSet<>(method.getRawParameterTypes());
        types.add(method.getRawReturnType());
        boolean shows = types.stream().anyMatch(resideInAnyPackage(INTERNAL));
        events.add(new SimpleConditionEvent(method, shows, method.getFullName()));
      }
    };
  }
}
