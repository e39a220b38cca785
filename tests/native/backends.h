// What every native test of ops does alike: which backends it runs on, and when a failure counts.
#pragma once

#include <string>
#include <vector>

#include "lethe.h"

namespace lethe::test {

// The status of a call that only the content of device memory can make fail: an asynchronous backend answers when it
// is waited for.
inline int settled(lethe_engine *engine, int status) { return status != LETHE_OK ? status : lethe_synchronize(engine); }

// A native test's command line: PLUGIN_DIR [BACKEND ...], by default both CPU plug-ins.
struct CommandLine {
  const char *plugins = ".";
  std::vector<std::string> backends;
  CommandLine(int argc, char **argv) {
    if (argc > 1) plugins = argv[1];
    for (int i = 2; i < argc; ++i) backends.emplace_back(argv[i]);
    if (backends.empty()) backends = {"cpu_avx2", "cpu_avx512"};
  }
};

}  // namespace lethe::test
