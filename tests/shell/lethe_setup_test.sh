#!/usr/bin/env bash
# Runs ./lethe in an environment that is bare but for stand-ins of the tools it looks for and installs.
# Each case is a function case_*; a failed expectation names itself and makes the script fail.
set -euo pipefail
launcher=$(cd "$(dirname "$0")/../.." && pwd)/lethe
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
real_tools=(bash cat dirname env find flock grep head mkdir mv readlink sed sort tail touch)

# A stand-in's script comes from stdin.
stand_in() {
  cat >"$1"
  chmod +x "$1"
}

tool() { printf '#!/bin/bash\necho "%s"\n' "$2" | stand_in "$bin/$1"; }

# A checkout with a space in its name, a PATH of stand-ins, uid 0, and no tools yet.
fresh_machine() {
  machine=$work/$1
  repo="$machine/the checkout" bin=$machine/bin jvm=$machine/jvm calls=$machine/calls
  mkdir -p "$repo/java/lethe/src" "$repo/native" "$repo/cmake" "$bin" "$jvm"
  touch "$repo/pom.xml" "$repo/java/lethe/pom.xml" "$repo/native/lethe.cpp" "$calls"
  cp "$launcher" "$repo/lethe"
  local name
  for name in "${real_tools[@]}"; do
    ln -s "$(command -v "$name")" "$bin/$name"
  done
  tool id 0
  tool apt-cache found
  stand_in "$bin/apt-get" <<END
#!/bin/bash
echo "apt-get \$*" >>"$calls"
[[ \$1 == install ]] && cp -r "$machine/archive/." "$machine/" 2>/dev/null
exit 0
END
  ln -s "$(command -v cp)" "$bin/cp"
}

sudo_available() {
  stand_in "$bin/sudo" <<END
#!/bin/bash
echo sudo >>"$calls"
exec "\$@"
END
}

jdk() {
  mkdir -p "$jvm/jdk-$1/bin"
  echo "JAVA_VERSION=\"$1\"" >"$jvm/jdk-$1/release"
  echo "echo javac $1" | stand_in "$jvm/jdk-$1/bin/javac"
  stand_in "$jvm/jdk-$1/bin/java" <<'END'
#!/bin/bash
printf 'java'
printf ' <%s>' "$@"
END
}

maven() {
  stand_in "$bin/mvn" <<END
#!/bin/bash
[[ \$1 == -version ]] && { echo "Apache Maven $1"; exit 0; }
echo "mvn \$* JAVA_HOME=\$JAVA_HOME natives=\${LETHE_NATIVE_TESTS:-ON} in \$PWD" >>"$calls"
[[ -e "$machine/build-fails" ]] && { echo "ERROR: no such method"; exit 1; }
mkdir -p java/lethe/target/classes/org/lethe/internal/cli java/lethe/target/lib
touch java/lethe/target/classes/org/lethe/internal/cli/Main.class
END
}

all_tools() {
  jdk 17.0.9
  maven 3.8.7
  tool g++ 12.2.0
  tool cmake "cmake version 3.25.1"
  tool make "GNU Make 4.3"
}

# What apt-get install brings: all tools, laid aside.
archive_all_tools() {
  local real_bin=$bin real_jvm=$jvm
  bin=$machine/archive/bin jvm=$machine/archive/jvm
  mkdir -p "$bin" "$jvm"
  all_tools
  bin=$real_bin jvm=$real_jvm
}

# Runs ./lethe from / with nothing in the environment but PATH; sets output and status.
lethe() {
  status=0
  output=$(cd / && env -i PATH="$bin" LETHE_JVM_DIRECTORY="$jvm" /bin/bash "$repo/lethe" "$@" 2>&1) || status=$?
}

fail() {
  echo "FAILED ${FUNCNAME[2]}: $1" >&2
  echo "  status $status, output: $output" >&2
  failures=$((failures + 1))
}
expect_status() { [[ $status == "$1" ]] || fail "expected status $1"; }
expect_output() { [[ $output == *"$1"* ]] || fail "expected in the output: $1"; }
expect_no_output() { [[ $output != *"$1"* ]] || fail "not expected in the output: $1"; }
expect_calls() { [[ $(cat "$calls") == *"$1"* ]] || fail "expected call: $1; calls were: $(cat "$calls")"; }
expect_no_call() { [[ $(cat "$calls") != *"$1"* ]] || fail "unexpected call: $1"; }

case_no_setup_only_names() {
  fresh_machine bare
  lethe demo --no-setup
  expect_status 2
  expect_output "missing: JDK 17 or newer with javac"
  for tool in "mvn 3.6.3" "g++ 11" "cmake 3.22" "make 4"; do
    expect_output "missing: $tool or newer"
  done
  expect_output "install it with: apt-get update && apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven g++ cmake make"
  expect_no_call apt-get
}

case_root_installs_and_builds() {
  fresh_machine root
  archive_all_tools
  lethe --no-setup config
  expect_status 2
  lethe config "a b=c" ""
  expect_status 0
  expect_calls "apt-get update"
  expect_calls "apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven g++ cmake make"
  expect_no_call sudo
  expect_calls "mvn -ntp -B -q -pl java/lethe package -DskipTests JAVA_HOME=$jvm/jdk-17.0.9 natives=OFF in $repo"
  expect_output "<-cp> <$repo/java/lethe/target/classes:$repo/java/lethe/target/lib/*> <org.lethe.internal.cli.Main> <config> <a b=c> <>"
}

case_others_go_through_sudo() {
  fresh_machine user
  archive_all_tools
  tool id 1000
  sudo_available
  lethe --no-setup demo
  expect_output "install it with: sudo apt-get update && sudo apt-get install -y"
  expect_no_call sudo
  lethe demo
  expect_status 0
  expect_calls $'sudo\napt-get update\nsudo\napt-get install'
}

case_without_sudo_the_line_is_named() {
  fresh_machine nosudo
  tool id 1000
  lethe demo
  expect_status 3
  expect_output "as root, run: apt-get update && apt-get install -y --no-install-recommends openjdk-17"
  expect_no_call apt-get
}

case_without_apt_it_stops() {
  fresh_machine noapt
  rm "$bin/apt-get"
  lethe demo
  expect_status 3
  expect_output "no apt-get"
}

case_only_what_is_missing_is_installed() {
  fresh_machine partly
  all_tools
  tool cmake "cmake version 3.18.4"
  lethe --no-setup demo
  expect_status 2
  expect_output "missing: cmake 3.22 or newer (found 3.18.4)"
  expect_output "--no-install-recommends cmake"
  expect_no_output g++
}

case_an_old_tool_that_stays_is_an_error() {
  fresh_machine stays
  all_tools
  maven 3.6.1
  lethe demo
  expect_status 3
  expect_output "still missing after the installation: mvn 3.6.3 or newer (found 3.6.1)"
}

case_an_old_jdk_does_not_hide_a_newer() {
  fresh_machine jdks
  all_tools
  jdk 11.0.2
  ln -s "$jvm/jdk-11.0.2/bin/javac" "$bin/javac"
  lethe config
  expect_status 0
  expect_calls "JAVA_HOME=$jvm/jdk-17.0.9"
  rm -r "$jvm/jdk-17.0.9" "$repo/target"
  lethe config --no-setup
  expect_status 2
  expect_output "missing: JDK 17 or newer with javac (found 11.0.2)"
  expect_no_output "missing: mvn"
}

case_another_jdk_where_17_is_not_packaged() {
  fresh_machine jdk21
  printf '#!/bin/bash\n[[ $2 == openjdk-21-jdk-headless ]]\n' | stand_in "$bin/apt-cache"
  lethe demo --no-setup
  expect_output "openjdk-21-jdk-headless maven"
}

case_it_builds_only_when_sources_are_newer() {
  fresh_machine fresh
  all_tools
  lethe config
  expect_output "lethe: building"
  : >"$calls"
  lethe config
  expect_status 0
  expect_no_call mvn
  expect_no_output "lethe: building"
  touch -d "1 minute" "$repo/native/lethe.cpp"
  lethe config
  expect_calls "mvn -ntp -B -q"
}

case_a_failed_build_shows_its_end_and_is_repeated() {
  fresh_machine broken
  all_tools
  touch "$machine/build-fails"
  lethe config
  expect_status 1
  expect_output "ERROR: no such method"
  expect_output "its full log is $repo/target/lethe-build.log"
  expect_no_output org.lethe.internal.cli.Main
  rm "$machine/build-fails"
  lethe config
  expect_status 0
  expect_output org.lethe.internal.cli.Main
}

case_a_failed_installation_shows_its_end() {
  fresh_machine offline
  printf '#!/bin/bash\necho "E: cannot reach the archive"\nexit 100\n' | stand_in "$bin/apt-get"
  lethe demo
  expect_status 3
  expect_output "E: cannot reach the archive"
  expect_output "by hand: apt-get update && apt-get install"
}

case_test_hands_its_arguments_to_maven() {
  fresh_machine test
  all_tools
  lethe test -Dlethe.tofu=/some/where
  expect_status 0
  expect_calls "mvn -ntp -B verify -Dlethe.tofu=/some/where"
  expect_calls "natives=ON"
  touch "$machine/build-fails"
  lethe test
  expect_status 1
}

case_the_format_check_has_its_own_tools() {
  fresh_machine format
  all_tools
  lethe check-format --no-setup
  expect_status 2
  expect_output "missing: clang-format-14 14 or newer"
  expect_output "--no-install-recommends clang-format-14"
}

case_the_tidy_check_has_its_own_tool() {
  fresh_machine tidy
  all_tools
  lethe check-tidy --no-setup
  expect_status 2
  expect_output "missing: clang-tidy-14 14 or newer"
  expect_output "--no-install-recommends clang-tidy-14"
  lethe demo --no-setup
  expect_status 0
  expect_no_output clang-tidy
}

case_an_installed_tidy_runs_the_check() {
  fresh_machine tidied
  archive_all_tools
  printf '#!/bin/bash\necho "Debian LLVM version 14.0.6"\n' | stand_in "$machine/archive/bin/clang-tidy-14"
  echo 'echo "tidy-check ran in $PWD"' >"$repo/cmake/tidy-check.sh"
  lethe check-tidy
  expect_status 0
  expect_calls "maven clang-tidy-14 g++"
  expect_output "tidy-check ran in $repo"
}

case_java_options_are_added() {
  fresh_machine options
  all_tools
  status=0
  output=$(env -i PATH="$bin" LETHE_JVM_DIRECTORY="$jvm" LETHE_JAVA_OPTS="-Xmx4g -ea" /bin/bash "$repo/lethe" x 2>/dev/null)
  expect_output "<-Xmx1g>"
  expect_output "<-Xmx4g> <-ea> <-cp>"
}

# CMake refuses a build directory that another tree made.
case_a_moved_tree_is_configured_anew() {
  local tree="$work/moved tree" home kept
  mkdir -p "$tree/native" "$tree/bin"
  cp "$(dirname "$launcher")/native/build.sh" "$tree/native/"
  printf '#!/bin/bash\n' | stand_in "$tree/bin/cmake"
  for home in "$tree/native" "$work/where it was/native"; do
    mkdir -p "$tree/build"
    echo "CMAKE_HOME_DIRECTORY:INTERNAL=$home" >"$tree/build/CMakeCache.txt"
    PATH=$tree/bin:$PATH bash "$tree/native/build.sh" "$tree/build" dnnl
    kept=no
    [[ ! -e $tree/build/CMakeCache.txt ]] || kept=yes
    echo "$kept"
  done >"$work/kept"
  output=$(tr '\n' ' ' <"$work/kept")
  expect_output "yes no"
}

count=0
for name in $(compgen -A function case_); do
  "$name"
  count=$((count + 1))
done
echo "launcher: $count cases, $failures failed expectations"
[[ $failures == 0 ]]
