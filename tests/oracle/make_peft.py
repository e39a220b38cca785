"""Adapters as PEFT writes them, in every spelling of targets, ranks and scales, with their logits in float64.

Proves: which modules an adapter sits on, with which rank and scale, is read as PEFT means it; fp16 and bf16 storage and named sub-folders too.
        The logits are those of the adapter loaded back by PEFT from the files, so that PEFT itself vouches for every configuration.
Run:    python tests/oracle/make_peft.py [--out tests/golden]     (after make_models.py)
Writes: peft/<case>/               adapter_config.json, adapter_model.safetensors by PEFT on llama-tiny (peft/named/<adapter>/ for the named one)
        peft/logits.safetensors    <case>: logits fp32 [sum T, V] of llama-tiny/forward.safetensors' sequences, adapter on
        peft/cases.json            per case: folder, and rank and scale of every adapted module as PEFT's layers hold them
A and B are random and non-zero; so large that leaving out one module, or a wrong scale, changes the logits visibly.
"""

import json
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import common

FOLDER = "peft"
LAYERS = r"model\.layers\.[02]\.(?:self_attn\.(?:q|v)_proj|mlp\.down_proj)"

# case: (keys of LoraConfig, stored dtype, adapter's name, keys changed by hand in the file)
CASES = {
    "rslora": (dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj"]), torch.float32, "default", {}),
    "patterns": (
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "down_proj"],
            rank_pattern={"v_proj": 2, r"layers\.[12]\.mlp\.down_proj": 6, "^model.layers.0.mlp.down_proj": 1, "proj": 5},
            alpha_pattern={r"self_attn\..*": 3, "down_proj": 12, r"layers.2.mlp.gate_proj": 1},
        ),
        torch.float32,
        "default",
        {},
    ),
    "stabilised-patterns": (
        dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["o_proj", "up_proj"], rank_pattern={"up_proj": 7}, alpha_pattern={"o_proj": 9}),
        torch.float32,
        "default",
        {},
    ),
    "regex": (dict(r=4, lora_alpha=8, target_modules=LAYERS), torch.float32, "default", {}),
    "layers": (
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj", "model.layers.1.self_attn.k_proj"], layers_to_transform=[0, 2], layers_pattern="layers"),
        torch.float32,
        "default",
        {},
    ),
    "one-layer": (
        dict(r=4, lora_alpha=8, target_modules=["v_proj", "mlp.up_proj"], layers_to_transform=1, exclude_modules=["up_proj"]),
        torch.float32,
        "default",
        {},
    ),
    "excluded": (
        dict(r=2, lora_alpha=3, target_modules="all-linear", exclude_modules=r".*\.layers\.1\..*|.*_proj(?<!down_proj)(?<!k_proj)"),
        torch.float16,
        "default",
        {"target_modules": "all-linear"},
    ),
    "bf16": (dict(r=4, lora_alpha=16, target_modules=["self_attn.q_proj", "o_proj"]), torch.bfloat16, "default", {}),
    "named": (dict(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["v_proj"]), torch.float32, "forget", {}),
}


def trained(base, settings, name, seed):
    """PEFT's model with random A and B."""
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings), adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                scale = parameter.shape[1] ** -0.5 if "lora_A" in key else 0.15
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def write(model, directory, name, dtype, changed):
    """What save_pretrained writes, in the storage type, with what differs from run to run pinned."""
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    folder = directory if name == "default" else directory / name
    (folder / "README.md").unlink(missing_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in sorted(load_file(weights).items())}, weights, metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changed
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config[key], list):
            config[key] = sorted(config[key])
    config["base_model_name_or_path"] = common.UNTIED
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    return folder


def modules(model):
    """Rank and scale of every adapted module."""
    found = {}
    for key, module in model.base_model.model.named_modules():
        if getattr(module, "lora_A", None):
            (name,) = module.lora_A
            found[key] = {"rank": module.r[name], "scale": module.scaling[name]}
    return dict(sorted(found.items()))


def make(out):
    logits, cases = {}, {}
    ids = common.sequences(common.UNTIED)
    for seed, (case, (settings, dtype, name, changed)) in enumerate(CASES.items(), 505):
        model = trained(common.load_model(out, common.UNTIED), settings, name, seed)
        folder = write(model, out / FOLDER / case, name, dtype, changed)
        loaded = PeftModel.from_pretrained(common.load_model(out, common.UNTIED), folder).eval()
        cases[case] = {"folder": folder.relative_to(out).as_posix(), "modules": modules(loaded)}
        common.lift_to_float64(loaded)
        with torch.no_grad():
            logits[case] = torch.cat([common.logits(loaded, row) for row in ids])
    origin = common.provenance(__file__, model=common.UNTIED)
    common.save_tensors(out / FOLDER / "logits.safetensors", logits, origin)
    common.save_json(out / FOLDER / "cases.json", {"provenance": origin, "cases": cases})
    for case, found in cases.items():
        ranks = sorted({(m["rank"], round(m["scale"], 4)) for m in found["modules"].values()})
        print(f"{case:20s} {len(found['modules']):3d} modules, (rank, scale) {ranks}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
