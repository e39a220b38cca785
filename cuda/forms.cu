// Ops that have several forms, none of which a device has shown to win everywhere: the environment chooses.
#include <cstdlib>
#include <string>

#include "device.cuh"

namespace lethe::cuda {
namespace {

// A variable's value; "" where it is not set.
std::string variable(const char *name) {
  const char *given = std::getenv(name);
  return given == nullptr ? "" : given;
}

int unknown(Device *device, const char *name, const std::string &given, const char *known) {
  return LETHE_CUDA_FAIL(
      device, LETHE_INVALID_ARGUMENT,
      std::string("the environment has ") + name + "=" + given + "; give " + known + ", or unset it");
}

}  // namespace

int read_forms(Device *device) {
  const std::string lora = variable("LETHE_LORA_FORM");
  device->augments = lora == "augmented";
  if (!device->augments && !lora.empty() && lora != "plain") {
    return unknown(device, "LETHE_LORA_FORM", lora, "plain or augmented");
  }
  const std::string rows = variable("LETHE_HEAD_ROWS");
  if (rows == "on_chip") {
    device->head_form = HeadForm::kOnChip;
  } else if (rows == "auto") {
    device->head_form = HeadForm::kAuto;
  } else if (!rows.empty() && rows != "two_looks") {
    return unknown(device, "LETHE_HEAD_ROWS", rows, "two_looks, on_chip or auto");
  }
  return LETHE_OK;
}

std::string forms_text(const Device *device) {
  const HeadForm rows = device->head_form;
  return std::string(R"("lora_form":")") + (device->augments ? "augmented" : "plain") + R"(","head_rows":")" +
         (rows == HeadForm::kOnChip ? "on_chip"
          : rows == HeadForm::kAuto ? "auto"
                                    : "two_looks") +
         "\"";
}

}  // namespace lethe::cuda
