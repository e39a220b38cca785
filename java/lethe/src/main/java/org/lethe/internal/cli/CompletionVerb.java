package org.lethe.internal.cli;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.ExportConfig;
import org.lethe.config.KeyPaths;
import org.lethe.config.RunConfig;
import picocli.AutoComplete;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/** {@code lethe completion}: a script by which a shell completes verbs, options and keys. */
@Command(
    name = "completion",
    description =
        "Print a script by which bash (or zsh) completes verbs, options, keys such as"
            + " train.learning_rate= and the values of those that have few.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe completion >~/.local/share/bash-completion/completions/lethe",
      "         source <(lethe completion)      (for this shell only)"
    })
final class CompletionVerb implements Callable<Integer> {
  /** The verbs that take keys, by the record that their keys are in. */
  private static final Map<Class<? extends Record>, String> KEYED = keyed();

  @Spec private CommandSpec spec;

  private final Console console;

  CompletionVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    console.out().println(AutoComplete.bash("lethe", spec.root().commandLine()));
    console.out().print(keys());
    return ExitCode.OK;
  }

  private static Map<Class<? extends Record>, String> keyed() {
    Map<Class<? extends Record>, String> keyed = new LinkedHashMap<>();
    keyed.put(RunConfig.class, "config|finetune|unlearn|evaluate|run|validate");
    keyed.put(ExportConfig.class, "merge|export");
    return keyed;
  }

  /** Around picocli's function one that knows keys; bash splits words at "=". */
  private static String keys() {
    StringBuilder verbs = new StringBuilder();
    StringBuilder values = new StringBuilder();
    KEYED.forEach(
        (type, names) -> {
          Map<String, List<String>> keys = KeyPaths.of(type);
          verbs
              .append("    ")
              .append(names)
              .append(") echo '")
              .append(String.join("= ", keys.keySet()))
              .append("=' ;;\n");
          values.append("    ").append(names).append(")\n      case $2 in\n");
          keys.forEach(
              (path, choices) -> {
                if (!choices.isEmpty()) {
                  values
                      .append("        ")
                      .append(path)
                      .append(") echo '")
                      .append(String.join(" ", choices))
                      .append("' ;;\n");
                }
              });
          values.append("      esac ;;\n");
        });
    return TEMPLATE.replace("@VERBS@", verbs).replace("@VALUES@", values);
  }

  private static final String TEMPLATE =
      """

      # Keys: what Lethe's verbs take as KEY.PATH=VALUE.
      _lethe_keys() {
        case $1 in
      @VERBS@  esac
      }

      _lethe_values() {
        case $1 in
      @VALUES@  esac
      }

      _lethe() {
        local word=${COMP_WORDS[COMP_CWORD]} key='' verb=${COMP_WORDS[1]}
        # bash makes three words of key=value, zsh one.
        if [[ $word == '=' ]]; then
          key=${COMP_WORDS[COMP_CWORD-1]} word=''
        elif [[ $COMP_CWORD -ge 2 && ${COMP_WORDS[COMP_CWORD-1]} == '=' ]]; then
          key=${COMP_WORDS[COMP_CWORD-2]}
        elif [[ $word == [a-z]*=* ]]; then
          key=${word%%=*} word=${word#*=}
        fi
        if [[ $key && $key != -* ]]; then
          local choices=$(_lethe_values "$verb" "$key")
          if [[ $choices ]]; then
            COMPREPLY=($(compgen -W "$choices" -- "$word"))
          else
            COMPREPLY=($(compgen -f -- "$word"))
            compopt -o filenames 2>/dev/null
          fi
          if [[ ${ZSH_VERSION:-} ]]; then
            COMPREPLY=("${COMPREPLY[@]/#/$key=}")
          fi
          return 0
        fi
        COMPREPLY=()
        _complete_lethe "$@"
        local keys=$(_lethe_keys "$verb")
        if [[ $COMP_CWORD -ge 2 && $keys && $word != -* ]]; then
          COMPREPLY+=($(compgen -W "$keys" -- "$word"))
          # A value follows the equals sign, so no space must.
          if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
            compopt -o nospace 2>/dev/null
          fi
        fi
        return 0
      }

      complete -F _lethe -o default lethe
      """;
}
