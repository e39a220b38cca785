// What was measured, as JSON and as a table.
#pragma once

#include <string>
#include <vector>

#include "cases.h"

namespace lethe::bench {

struct Measured {
  std::string name, shape;
  int32_t dtype = LETHE_BF16;
  std::string status = "timed";  // or "wrong", "absent"
  std::string why;
  double error = 0, bound = 0;  // of the check
  Device::Times times;
  Device::Launches launches;
  double bytes = 0, flops = 0;
  std::string ceiling;  // "copy", "products" or ""
  double ceiling_rate = 0, share = 0, limit = 0;
};

struct Heading {
  std::string description, commit, date, command;
  double copy_bytes_per_second = 0;
  bool small = false;
};

bool write_report(const std::string &prefix, const Heading &heading, const std::vector<Measured> &all);

}  // namespace lethe::bench
