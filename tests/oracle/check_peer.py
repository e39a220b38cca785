"""Is the timed Hugging Face + PEFT peer computing the losses of the goldens?

Proves: bench/peers/hf_peft_step.py, which pads and batches, gives the losses and gradient norms of llama-tiny/lora_step.json, which are
        computed sequence by sequence: so padding enters no loss, and what is timed is the same step. Also guards the goldens: the two are
        written separately.
Run:    python tests/oracle/check_peer.py     (needs tests/golden)
Exits:  non-zero if a loss or a gradient norm is further than 1e-5, relative (fp32 against float64), or nothing was compared.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

import common

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "peers"))
import hf_peft_step  # noqa: E402

LIMIT = 1e-5


def peer_values(directory, rows, method, positions, pad, reference):
    argv = ["--model", str(directory), "--rows", str(rows), "--method", method, "--rank", "4", "--alpha", "8"]
    options = hf_peft_step.arguments([*argv, "--pad", pad, "--me-positions", positions, "--reference", reference])
    peer = hf_peft_step.Peer(options)
    set_peft_model_state_dict(peer.model, load_file(directory / "adapter" / "adapter_model.safetensors"))
    loss = peer.loss(hf_peft_step.read_batches(options, peer.roles())[0])
    loss.backward()
    return loss.item(), torch.stack([p.grad.norm() for p in peer.trained]).norm().item()


def main():
    common.prepare()
    directory = common.GOLDEN / common.UNTIED
    golden = json.loads((directory / "lora_step.json").read_text(encoding="utf-8"))
    step = [{"role": s["role"], "pair": s["pair"], "ids": s["ids"], "answer_start": s["answerStart"]} for s in golden["sequences"]]
    compared, failed = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        rows.write_text(json.dumps({"batches": [step]}), encoding="utf-8")
        for wanted in golden["combinations"]:
            forget, _, positions = wanted["forget"].partition(".")
            # The peer knows neither the reverse ME, nor KL on answers, nor other coefficients.
            if forget == "ME_REVERSE" or wanted["retain"] == "KL.answer" or ";" in wanted["name"]:
                continue
            method = f"{forget}+{wanted['retain'].partition('.')[0]}"
            for pad, reference in (("longest", "copy"), ("32", "adapter-off")):
                loss, norm = peer_values(directory, rows, method, positions or "answer", pad, reference)
                loss_error = abs(loss - wanted["loss"]) / abs(wanted["loss"])
                norm_error = abs(norm - wanted["gradientNorm"]) / wanted["gradientNorm"]
                good = max(loss_error, norm_error) <= LIMIT
                compared, failed = compared + 1, failed + (not good)
                print(f"{'ok  ' if good else 'FAIL'} {wanted['name']:16s} pad {pad:8s} loss {loss_error:.1e} gradient norm {norm_error:.1e}")
    print(f"{compared} compared, {failed} failed")
    return 0 if compared and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
