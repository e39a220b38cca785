// Ops that have several forms, none of which a device has shown to win everywhere: the environment chooses.
#include <cstdlib>
#include <string>

#include "head_fused.cuh"

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

// Whether it is the other form than the plain one.
int read_other(Device *device, const char *name, const char *other, bool *asked) {
  const std::string given = variable(name);
  *asked = given == other;
  if (*asked || given.empty() || given == "plain") return LETHE_OK;
  return unknown(device, name, given, (std::string("plain or ") + other).c_str());
}

}  // namespace

int read_forms(Device *device) {
  LETHE_CUDA_TRY(read_other(device, "LETHE_LORA_FORM", "augmented", &device->augments));
  const std::string head = variable("LETHE_HEAD_FORM");
  if (head == "fused") {
    device->head_form = HeadForm::kFused;
  } else if (head == "fused_mma") {
    device->head_form = HeadForm::kFusedMma;
  } else if (!head.empty() && head != "plain") {
    return unknown(device, "LETHE_HEAD_FORM", head, "plain, fused or fused_mma");
  }
  const std::string rows = variable("LETHE_HEAD_ROWS");
  if (rows == "on_chip") {
    device->rows_form = RowsForm::kOnChip;
  } else if (rows == "auto") {
    device->rows_form = RowsForm::kAuto;
  } else if (!rows.empty() && rows != "two_looks") {
    return unknown(device, "LETHE_HEAD_ROWS", rows, "two_looks, on_chip or auto");
  }
  return LETHE_OK;
}

int choose_forms(Device *device) {
  if (device->head_form != HeadForm::kFused) return LETHE_OK;
  bool wgmma = false;
  LETHE_CUDA_TRY(fused::has_wgmma(device, &wgmma));
  device->head_form = wgmma ? HeadForm::kFusedWgmma : HeadForm::kFusedMma;
  return LETHE_OK;
}

std::string forms_text(const Device *device) {
  const RowsForm rows = device->rows_form;
  const HeadForm head = device->head_form;
  return std::string(R"("lora_form":")") + (device->augments ? "augmented" : "plain") + R"(","head_form":")" +
         (head == HeadForm::kFusedWgmma ? "fused_wgmma"
          : head == HeadForm::kFusedMma ? "fused_mma"
                                        : "plain") +
         R"(","head_rows":")" +
         (rows == RowsForm::kOnChip ? "on_chip"
          : rows == RowsForm::kAuto ? "auto"
                                    : "two_looks") +
         "\"";
}

}  // namespace lethe::cuda
