"""Whole ME+GD steps: Hugging Face + PEFT, padded to 500 tokens and padding-free, plain and with Liger's modules, beside Lethe's.

Lethe's step runs in a process of its own, which makes one step for each line it is sent. Its weights are a named sequence of normal numbers
that lethe_random_normal makes here, too; so all have the same weights and rows. The losses before any update must agree.
"""

import contextlib
import ctypes
import json
import math
import random
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from lethe import dtype_of
from measure import summary
from provider import Absent, need_source, need_triton

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RANK = 8
DEVIATION = 0.02
# Of the loss before any update: storage rounds activations.
BOUND = {"fp32": 1e-4, "bf16": 1e-2}
EOS = 2
MODELS = {
    "1B": dict(vocab_size=128256, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, intermediate_size=8192),
    "7B": dict(vocab_size=32000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32, intermediate_size=11008),
    "tiny": dict(vocab_size=1003, hidden_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=160),
    "tiny-tied": dict(vocab_size=1003, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96),
}
TIED = {"1B", "tiny-tied"}


def plan(tiny):
    return [("tiny", 10), ("tiny-tied", 10)] if tiny else [("7B", 75), ("1B", 45)]


def rows(vocabulary, pairs, pad, seed=11):
    """One batch in make_rows.py's form, as long as TOFU's rows are: some 100 tokens, two fifths of them the question."""
    generator = random.Random(seed)
    batch = []
    for role in ("FORGET", "RETAIN"):
        for pair in range(pairs):
            length = min(pad - 1, max(6, round(generator.lognormvariate(math.log(pad / 5), 0.35))))
            ids = [generator.randrange(3, vocabulary) for _ in range(length - 1)] + [EOS]
            batch.append(dict(role=role, pair=pair, ids=ids, answer_start=max(1, 2 * length // 5)))
    return dict(vocab=vocabulary, rows="tofu-like", seed=seed, batches=[batch])


class Server:
    """Lethe's process."""

    def __init__(self, options, model, file):
        words = [*shlex.split(options.java), "org.lethe.bench.StepRounds", "--device", options.device, "--threads", str(options.threads)]
        words += ["--storage", "F32" if options.dtype == "fp32" else "BF16", "--model", model, "--rows", str(file), "--rank", str(RANK)]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError("Lethe's process ended: " + self.errors.read()[-2000:])
        return json.loads(line)

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Batches:
    """The rows of each role, padded to one width or laid end to end: ids, mask or positions, labels."""

    def __init__(self, document, device, pad):
        self.roles = {}
        for role in ("FORGET", "RETAIN"):
            sequences = [s for s in document["batches"][0] if s["role"] == role]
            self.roles[role] = self.padded(sequences, pad, device) if pad else self.packed(sequences, device)

    @staticmethod
    def padded(sequences, pad, device):
        ids, mask, labels = (torch.full((len(sequences), pad), value) for value in (EOS, 0, -100))
        for i, s in enumerate(sequences):
            n = len(s["ids"])
            ids[i, :n] = torch.tensor(s["ids"])
            mask[i, :n] = 1
            labels[i, s["answer_start"] : n] = ids[i, s["answer_start"] : n]
        return dict(input_ids=ids.to(device), attention_mask=mask.to(device)), labels.to(device)

    @staticmethod
    def packed(sequences, device):
        ids, positions, labels = [], [], []
        for s in sequences:
            ids += s["ids"]
            positions += range(len(s["ids"]))
            labels += [-100] * s["answer_start"] + s["ids"][s["answer_start"] :]
        one = lambda values: torch.tensor([values], device=device)
        return dict(input_ids=one(ids), position_ids=one(positions)), one(labels)


class Peft:
    """A model with adapters on all linears, and its step."""

    def __init__(self, base, batches, liger):
        import hf_peft_step
        from peft import LoraConfig, get_peft_model

        self.batches, self.liger, self.weight = batches, liger, hf_peft_step.ME_COEFFICIENT
        self.vocabulary = base.config.vocab_size
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config).train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = trained
        self.update = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)

    def loss(self, role):
        inputs, labels = self.batches.roles[role]
        y = labels[:, 1:].reshape(-1)
        if self.liger is not None:
            causal = self.model.base_model.model
            h = causal.model(**inputs).last_hidden_state[:, :-1].reshape(len(y), -1)
            smoothing = 1.0 if role == "FORGET" else 0.0
            found = self.liger(label_smoothing=smoothing)(causal.lm_head.weight, h, y)
        else:
            z = self.model(**inputs).logits[:, :-1].float().flatten(0, 1)
            found = F.cross_entropy(z, y, label_smoothing=1.0 if role == "FORGET" else 0.0)
        return self.weight * (found - math.log(self.vocabulary)) if role == "FORGET" else found

    def start_loss(self):
        with torch.no_grad():
            return sum(self.loss(role).item() for role in self.batches.roles)

    def step(self):
        for role in self.batches.roles:
            self.loss(role).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0, foreach=True)
        self.update.step()
        self.update.zero_grad(set_to_none=True)


class StepBench:
    def __init__(self, options, meter, engine):
        self.options, self.meter, self.engine = options, meter, engine
        self.server, self.absent, self.liger, self.clean = None, {}, None, None
        if not options.java:
            self.absent["steps"] = "--java names no Java; bench/gpu/run peers does"
        try:
            import peft  # noqa: F401
            import transformers

            transformers.logging.set_verbosity_error()
        except ImportError as e:
            self.absent["hf-peft steps"] = f"cannot be imported: {e}"
        try:
            need_source("liger", "src")
            need_triton(options.device)
            from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

            self.liger = LigerFusedLinearCrossEntropyLoss
        except (Absent, ImportError) as e:
            self.absent["hf-peft-liger steps"] = str(e)

    def close(self):
        if self.server is not None:
            with contextlib.suppress(Exception):
                self.server.close()
            self.server = None

    def base(self, model, matrices):
        """Lethe's weights in Hugging Face's Llama, made without being drawn twice."""
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        # Older versions know rope_theta alone, and would take their default without it.
        theta = 500000.0 if model in TIED else 10000.0
        dtype = torch.float32 if self.options.dtype == "fp32" else torch.bfloat16
        config = LlamaConfig(
            **MODELS[model], tie_word_embeddings=model in TIED, rms_norm_eps=1e-5, max_position_embeddings=2048,
            rope_theta=theta, rope_parameters=dict(rope_type="default", rope_theta=theta), attn_implementation="sdpa", use_cache=False,
        )  # fmt: skip
        with torch.device("meta"):
            made = LlamaForCausalLM(config).to(dtype)
        made.to_empty(device=self.meter.device)
        made.tie_weights()
        made.model.rotary_emb = LlamaRotaryEmbedding(config, device=self.meter.device)
        made.requires_grad_(False)
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1)
        for matrix in matrices:
            p = made.get_parameter(matrix["name"])
            self.engine.call("random_normal", dtype_of(p), p.numel(), ctypes.c_uint64(matrix["sequence"]), 0, DEVIATION, p)
        self.engine.forget()
        return made

    def liger_base(self, plain):
        from liger_kernel.transformers import apply_liger_kernel_to_llama
        from transformers import LlamaForCausalLM
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        with torch.device("meta"):
            made = LlamaForCausalLM(plain.config).to(plain.dtype)
        made.load_state_dict(plain.state_dict(), assign=True)
        made.tie_weights()
        made.model.rotary_emb = LlamaRotaryEmbedding(plain.config, device=self.meter.device)
        made.requires_grad_(False)
        # Its rotary embedding replaces a function of the module, which the plain model uses, too.
        apply_liger_kernel_to_llama(rope=False, cross_entropy=False, fused_linear_cross_entropy=False, model=made)
        return made

    def variants(self, model, matrices, document, pad):
        """(name, make) of each peer; a base serves the variants in turn, whose adapters are taken off again."""
        plain = self.base(model, matrices)
        padded, packed = Batches(document, self.meter.device, pad), Batches(document, self.meter.device, 0)
        yield f"hf-peft-pad{pad}", lambda: Peft(plain, padded, None)
        yield "hf-peft-packed", lambda: Peft(self.again(plain), packed, None)
        if self.liger is not None:
            yield f"hf-peft-liger-pad{pad}", lambda: Peft(self.liger_base(self.clean), padded, self.liger)
            yield "hf-peft-liger-packed", lambda: Peft(self.liger_base(self.clean), packed, self.liger)

    def again(self, plain):
        """Another model on the same weights: PEFT changes the one it gets."""
        from transformers import LlamaForCausalLM
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        state = {k.replace("base_layer.", ""): v for k, v in plain.state_dict().items() if "lora_" not in k}
        with torch.device("meta"):
            self.clean = LlamaForCausalLM(plain.config).to(plain.dtype)
            made = LlamaForCausalLM(plain.config).to(plain.dtype)
        for one in (self.clean, made):
            one.load_state_dict(state, assign=True)
            one.tie_weights()
            one.model.rotary_emb = LlamaRotaryEmbedding(plain.config, device=self.meter.device)
            one.requires_grad_(False)
        return made

    def run(self, model, seconds):
        if not self.options.java or "hf-peft steps" in self.absent:
            return []
        tiny = model.startswith("tiny")
        pad = 50 if tiny else 500
        document = rows(MODELS[model]["vocab_size"], 2 if tiny else 8, pad)
        with tempfile.TemporaryDirectory() as work:
            file = Path(work) / "rows.json"
            file.write_text(json.dumps(document), encoding="utf-8")
            self.server = Server(self.options, model, file)
            try:
                return self.compare(model, document, pad, seconds)
            finally:
                self.close()
                self.clean = None

    def entry(self, model, document, name):
        tokens = sum(len(s["ids"]) for s in document["batches"][0])
        return dict(family="step", case=model, loss="ME+GD", provider=name, tokens=tokens, bound=BOUND[self.options.dtype])

    def compare(self, model, document, pad, seconds):
        expected = self.server.ready["loss"]
        own = self.entry(model, document, "lethe")
        own.update(status="timed", loss_before=expected, peak_bytes=None, error=0.0)
        # Before there are peers: the device says what all processes take together.
        own["device_bytes"] = self.server.ask("step")["device_bytes"]
        entries, calls = [own], {"lethe": lambda: self.server.ask("step")}
        for name, make in self.variants(model, self.server.ready["matrices"], document, pad):
            entry = self.entry(model, document, name)
            entries.append(entry)
            try:
                peer = make()
                entry["loss_before"] = peer.start_loss()
                entry["error"] = abs(entry["loss_before"] - expected) / abs(expected)
                if not entry["error"] <= entry["bound"]:
                    entry.update(status="WRONG", why=f"its loss is {entry['loss_before']:.6f}, Lethe's {expected:.6f}")
                    continue
                _, entry["peak_bytes"] = self.meter.peak(peer.step)
                entry["status"] = "timed"
                calls[name] = peer.step
            except torch.cuda.OutOfMemoryError:
                entry.update(status="OUT OF MEMORY", why="does not fit beside the others")
            except Exception as e:  # noqa: BLE001 - a peer that fails is told
                entry.update(status="FAILED", why=f"{type(e).__name__}: {e}")
        if self.meter.cuda:
            torch.cuda.empty_cache()
        taken = self.meter.rounds(calls, min(self.options.rounds, 8), seconds / 3)
        for entry in entries:
            if entry["provider"] in taken:
                entry.update(summary(taken[entry["provider"]]))
                entry["tokens_per_s"] = entry["tokens"] / entry["ms_median"] * 1e3
                if entry["provider"] != "lethe":
                    entry["launches"] = self.meter.launches(calls[entry["provider"]])
        self.tell_own(own)
        return entries

    def tell_own(self, own):
        if self.meter.cuda:
            counted = self.server.ask("launches")["launches"]
            own["launches"] = counted["kernel"] + counted["gemm"]


