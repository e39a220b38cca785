#include "error.h"

#include <cstring>

namespace lethe {
namespace {

std::string &this_thread_trace() {
  static thread_local std::string text;
  return text;
}

const char *file_name(const char *path) {
  const char *slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

}  // namespace

void clear_trace() { this_thread_trace().clear(); }

int fail(int status, const char *file, int line, const std::string &message) {
  std::string &text = this_thread_trace();
  std::string entry = message + " (" + file_name(file) + ":" + std::to_string(line) + ")";
  text = text.empty() ? entry : text + "\n  in " + entry;
  return status;
}

const char *trace() { return this_thread_trace().c_str(); }

}  // namespace lethe
