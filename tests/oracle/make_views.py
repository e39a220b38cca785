"""Two more PEFT adapters on llama-tiny, and the logits of sums of adapters, by plain weight arithmetic in float64.

Proves: a view, base + sum of coefficient x adapter, is the model whose weights are W + sum c s B A, though nothing is merged; and that an
        adapter written as a sum of others is that model, too.
Run:    python tests/oracle/make_views.py [--out tests/golden]     (after make_lora.py, whose adapter is "first" here)
Writes: views/second/, views/third/    adapter_config.json, adapter_model.safetensors by PEFT
        views/logits.safetensors       ids int32 [T]; one tensor [T, V] for each view of views.json, fp32 of float64
        views/views.json               the views: name, and the coefficient of each adapter
"""

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

import common
import make_lora

FOLDER = "views"
# Ranks, scales and targets differ: nothing of one adapter fits the other.
SECOND = dict(r=2, lora_alpha=1, target_modules=["q_proj", "v_proj", "down_proj"])
THIRD = dict(r=3, lora_alpha=6, target_modules=["k_proj", "o_proj", "up_proj", "down_proj"])
DIRECTORIES = {"first": f"{common.UNTIED}/adapter", "second": f"{FOLDER}/second", "third": f"{FOLDER}/third"}
VIEWS = {
    "base": {},
    "first": {"first": 1.0},
    "negated": {"first": -1.0},
    "mixed": {"first": 0.65},
    "forgotten": {"second": -0.3, "first": 1.0},
    "all": {"first": 0.7, "second": -1.3, "third": 0.4},
}


def adapter(out, shape, seed):
    model = get_peft_model(common.load_model(out, common.UNTIED), LoraConfig(lora_dropout=0.0, task_type="CAUSAL_LM", **shape))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                scale = parameter.shape[1] ** -0.5 if "lora_A" in name else 0.2
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def delta(out, name):
    """s B A of every module, float64."""
    tensors = load_file(out / DIRECTORIES[name] / "adapter_model.safetensors")
    shape = {"first": dict(r=make_lora.RANK, lora_alpha=make_lora.ALPHA), "second": SECOND, "third": THIRD}[name]
    products = {}
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            b = tensors[key.replace("lora_A", "lora_B")]
            module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            products[module + ".weight"] = shape["lora_alpha"] / shape["r"] * b.double() @ a.double()
    return products


def view(out, coefficients):
    """The model with the weights of a view."""
    model = common.lift_to_float64(common.load_model(out, common.UNTIED))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, coefficient in coefficients.items():
            for key, product in delta(out, name).items():
                parameters[key] += coefficient * product
    return model


def make(out):
    (out / FOLDER).mkdir(exist_ok=True)
    make_lora.save_adapter(adapter(out, SECOND, 505), out / FOLDER / "second")
    make_lora.save_adapter(adapter(out, THIRD, 606), out / FOLDER / "third")
    ids = common.sequences(common.UNTIED)[1]
    with torch.no_grad():
        logits = {name: common.logits(view(out, coefficients), ids) for name, coefficients in VIEWS.items()}
    origin = common.provenance(__file__, model=common.UNTIED)
    common.save_tensors(out / FOLDER / "logits.safetensors", {"ids": torch.tensor(ids)} | logits, origin)
    common.save_json(out / FOLDER / "views.json", {"provenance": origin, "adapters": DIRECTORIES, "views": VIEWS})
    for name, z in logits.items():
        print(f"{name:10s} moved {(z - logits['base']).norm() / logits['base'].norm():.3f}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
