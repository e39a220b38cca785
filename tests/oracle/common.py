"""What the golden makers share: determinism, seeded tiny Llamas, float64 references, writing of goldens.

Nothing to run here. Every maker calls `prepare()` first; every golden it writes names the versions that made it.
"""

import argparse
import json
import platform
import types
from pathlib import Path

import numpy
import peft
import safetensors
import safetensors.torch
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BOS, EOS = 1, 2
FIRST_ORDINARY_ID = 3

UNTIED, TIED = "llama-tiny", "llama-tiny-tied"

# A vocabulary of 101 is no multiple of 8, so that every vocabulary loop has a tail; the tied model has one kv head for all heads.
SHAPES = {
    UNTIED: dict(vocab_size=101, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=56),
    TIED: dict(vocab_size=96, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24),
}
SEEDS = {UNTIED: 101, TIED: 202}
SEQUENCE_LENGTHS = (5, 17, 11)


def prepare():
    """One thread and deterministic algorithms: the same bytes every time."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def arguments(doc):
    """Parses the one argument all makers have: the folder of the goldens."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder of the goldens")
    return parser.parse_args()


def versions():
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "safetensors": safetensors.__version__,
    }


def provenance(script, **more):
    return {"script": f"tests/oracle/{Path(script).name}", "versions": versions(), **more}


def save_tensors(path, tensors, origin, **as_they_are):
    """Writes float tensors as fp32 and integers as int32; `as_they_are` keep their type.

    The provenance is ONE metadata entry because safetensors does not keep the order of several.
    """
    stored = {k: v.detach().to(torch.float32 if v.is_floating_point() else torch.int32).contiguous() for k, v in tensors.items()}
    stored |= as_they_are
    safetensors.torch.save_file(stored, path, metadata={"provenance": json.dumps(origin, sort_keys=True)})


def save_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def random_model(name):
    """A Llama of shape SHAPES[name] in fp32, with weights large enough that logits have a spread of about 2."""
    shape = SHAPES[name]
    config = LlamaConfig(
        **shape,
        head_dim=8,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=name == TIED,
        bos_token_id=BOS,
        eos_token_id=EOS,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(SEEDS[name])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * noise)
            elif "embed_tokens" in key:
                parameter.copy_(0.5 * noise)
            else:
                gain = 2.0 if "lm_head" in key else 1.2
                parameter.copy_(gain * noise / parameter.shape[1] ** 0.5)
    return model.eval()


def load_model(out, name):
    return LlamaForCausalLM.from_pretrained(out / name, dtype=torch.float32, attn_implementation="sdpa").eval()


def lift_to_float64(model):
    """Casts to float64, and lifts the two places where transformers' Llama computes in fp32 whatever the dtype: norms and rotary."""

    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self, x, position_ids):
        half = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        angles = position_ids[..., None].to(torch.float64) * theta**-half
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()

    theta, head_dim = model.config.rope_parameters["rope_theta"], model.config.head_dim
    model.to(torch.float64)
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = types.MethodType(norm, module)
        elif type(module).__name__ == "LlamaRotaryEmbedding":
            module.forward = types.MethodType(rotary, module)
    return model


def random_ids(generator, vocabulary, length):
    """Random ordinary tokens, with BOS in front."""
    rest = torch.randint(FIRST_ORDINARY_ID, vocabulary, (length - 1,), generator=generator)
    return [BOS] + rest.tolist()


def sequences(name):
    """The three sequences of unequal length on which `name`'s forward and full gradients are made."""
    generator = torch.Generator().manual_seed(SEEDS[name] + 1)
    return [random_ids(generator, SHAPES[name]["vocab_size"], n) for n in SEQUENCE_LENGTHS]


def logits(model, ids):
    """[T, V] of one sequence without padding."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def shifted_nll(z, ids):
    """[T-1]: position t predicts ids[t+1]."""
    return torch.logsumexp(z[:-1], -1) - z[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
