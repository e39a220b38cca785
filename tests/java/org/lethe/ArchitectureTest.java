package org.lethe;

import static com.tngtech.archunit.core.domain.JavaCall.Predicates.target;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideOutsideOfPackages;
import static com.tngtech.archunit.core.domain.properties.HasName.Predicates.name;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.Architectures.layeredArchitecture;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;

import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.junit.AnalyzeClasses;
import com.tngtech.archunit.junit.ArchTest;
import com.tngtech.archunit.lang.ArchRule;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;

/** Holds the direction of imports and a few bans; packages that do not exist yet are allowed. */
@AnalyzeClasses(packages = "org.lethe", importOptions = ImportOption.DoNotIncludeTests.class)
class ArchitectureTest {
  private static final String[] NATIVE = {
    "org.lethe.kernels..", "org.bytedeco..", "java.lang.foreign.."
  };

  @ArchTest
  static final ArchRule importsRunOneWay =
      layeredArchitecture()
          .consideringOnlyDependenciesInAnyPackage("org.lethe..")
          .withOptionalLayers(true)
          .layer("cli")
          .definedBy("org.lethe.cli..")
          .layer("run")
          .definedBy("org.lethe.run..")
          .layer("results")
          .definedBy("org.lethe.evaluate..", "org.lethe.checkpoint..", "org.lethe.report..")
          .layer("work")
          .definedBy("org.lethe.train..", "org.lethe.metric..")
          .layer("parts")
          .definedBy("org.lethe.method..", "org.lethe.model..", "org.lethe.data..")
          .layer("kernels")
          .definedBy("org.lethe.kernels..")
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
      slices().matching("org.lethe.(*)..").should().beFreeOfCycles();

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
          .resideOutsideOfPackage("org.lethe.kernels..")
          .should()
          .dependOnClassesThat()
          .resideInAPackage("org.bytedeco..");

  @ArchTest
  static final ArchRule onlyMainExits =
      noClasses()
          .that()
          .doNotHaveFullyQualifiedName("org.lethe.cli.Main")
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
          .that(resideOutsideOfPackages("org.lethe.cli.."))
          .should()
          .accessField(System.class, "out")
          .orShould()
          .accessField(System.class, "err")
          .orShould()
          .callMethodWhere(target(name("printStackTrace")));
}
