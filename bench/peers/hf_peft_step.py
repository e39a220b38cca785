"""The peer: one unlearning step of Hugging Face + PEFT on the CPU, on weights and rows given from outside.

Run: python bench/peers/hf_peft_step.py --model DIR --rows rows.json --method ME+GD [--rank 8 --alpha 16] [--pad longest|N] [--threads 2]
     [--warmup 3 --steps 10] [--dtype fp32|bf16] [--reference copy|adapter-off]
     (DIR and rows.json as made by make_model.py and make_rows.py)

It works as the published trainers do: one forward per role the loss needs, padded to one width, whole logits in memory, a second model as the
reference where the loss needs one (--reference adapter-off is kinder: the same model with LoRA switched off). A step is forward, backward,
clipping to norm 1 and AdamW (lr 1e-4, decay 0.01) on LoRA matrices in every linear but the head, B = 0 at the start.

Methods: {GA,NPO,DPO,IDK,ME}[+{GD,KL,AP}] or a retain loss alone as none+GD; beta 0.1; ME weighs 0.1, everything else 1.
Padding never enters a loss, so that loss_step0 equals that of an engine without padding. The published code averages KL, and ME too when its
labels are unmasked, over padding as well: here ME averages over --me-positions (the answer, unless told), KL over every real shifted position.

Before any update the loss of the first batch is printed: in fp32 (a bf16 run evaluates it in a second process, so that its own memory stays
its own). Then one JSON line: method, dtype, loss_step0, ms_median, ms_min, ms_all, cpu_ms (processor time a step), real_tokens (per step, of the forwards with gradient),
peak_MB (VmHWM of this process: all of it, imports and loading included), versions, threads.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

BETA = 0.1
ME_COEFFICIENT = 0.1
IGNORED = -100
PAD = 2
FORGET_ROLES = {"none": (), "GA": ("FORGET",), "NPO": ("FORGET",), "DPO": ("FORGET_IDK", "FORGET"), "IDK": ("FORGET_IDK",), "ME": ("FORGET",)}
RETAIN_ROLES = {"none": (), "GD": ("RETAIN",), "KL": ("RETAIN",), "AP": ("RETAIN_IDK", "RETAIN")}
NEEDS_REFERENCE = {"NPO", "DPO", "KL"}


class Batch:
    """The sequences of one role, padded on the right: ids, mask, labels [rows, width]."""

    def __init__(self, sequences, width):
        shape = (len(sequences), width)
        self.ids = torch.full(shape, PAD)
        self.mask = torch.zeros(shape, dtype=torch.long)
        self.labels = torch.full(shape, IGNORED)
        self.tokens = 0
        for row, sequence in enumerate(sorted(sequences, key=lambda s: s["pair"])):
            ids, start = sequence["ids"][:width], sequence["answer_start"]
            self.ids[row, : len(ids)] = torch.tensor(ids)
            self.mask[row, : len(ids)] = 1
            self.labels[row, start : len(ids)] = self.ids[row, start : len(ids)]
            self.tokens += len(ids)

    def answer(self):
        """[rows, width-1]: the shifted positions whose next token is an answer's."""
        return self.labels[:, 1:] != IGNORED

    def real(self):
        """[rows, width-1]: the shifted positions whose next token is not padding."""
        return self.mask[:, 1:] == 1


class Peer:
    """The policy with its adapter, and its reference."""

    def __init__(self, options):
        self.forget, _, self.retain = options.method.partition("+")
        self.retain = self.retain or "none"
        self.me_positions = options.me_positions
        dtype = torch.float32 if options.dtype == "fp32" else torch.bfloat16
        base = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa")
        base.config.use_cache = False
        needed = {self.forget, self.retain} & NEEDS_REFERENCE
        self.copy = copy.deepcopy(base).eval().requires_grad_(False) if needed and options.reference == "copy" else None
        self.reference_kind = options.reference if needed else "none"
        torch.manual_seed(options.seed)
        lora = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(base, lora).train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.01)

    def roles(self):
        return FORGET_ROLES[self.forget] + RETAIN_ROLES[self.retain]

    def policy(self, batch):
        return self.model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1].float()

    @torch.no_grad()
    def reference(self, batch):
        if self.copy is not None:
            return self.copy(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1].float()
        with self.model.disable_adapter():
            return self.policy(batch)

    def token_mean(self, batch):
        return F.cross_entropy(self.policy(batch).flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED)

    def sequence_nll(self, batch, logits):
        """[rows]: nll summed over each answer."""
        nll = F.cross_entropy(logits(batch).flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none")
        return nll.view(len(batch.ids), -1).sum(-1)

    def log_ratio(self, batch):
        """[rows]: log of policy over reference, of the whole answer."""
        return self.sequence_nll(batch, self.reference) - self.sequence_nll(batch, self.policy)

    def uniform_kl(self, batch):
        z = self.policy(batch)
        keep = batch.answer() if self.me_positions == "answer" else batch.real()
        uniform = torch.full_like(z, 1 / z.shape[-1])
        return F.kl_div(F.log_softmax(z, -1), uniform, reduction="none").sum(-1)[keep].mean()

    def reference_kl(self, batch):
        log_p, log_reference = F.log_softmax(self.policy(batch), -1), F.log_softmax(self.reference(batch), -1)
        return F.kl_div(log_p, log_reference, reduction="none", log_target=True).sum(-1)[batch.real()].mean()

    def forget_loss(self, batches):
        own, refusal = batches.get("FORGET"), batches.get("FORGET_IDK")
        match self.forget:
            case "none":
                return 0.0
            case "GA":
                return -self.token_mean(own)
            case "IDK":
                return self.token_mean(refusal)
            case "ME":
                return ME_COEFFICIENT * self.uniform_kl(own)
            case "NPO":
                return -2 / BETA * F.logsigmoid(-BETA * self.log_ratio(own)).mean()
            case "DPO":
                return -2 / BETA * F.logsigmoid(BETA * (self.log_ratio(refusal) - self.log_ratio(own))).mean()

    def retain_loss(self, batches):
        own, refusal = batches.get("RETAIN"), batches.get("RETAIN_IDK")
        match self.retain:
            case "none":
                return 0.0
            case "GD":
                return self.token_mean(own)
            case "KL":
                return self.reference_kl(own)
            case "AP":
                preference = self.sequence_nll(refusal, self.policy) - self.sequence_nll(own, self.policy)
                return -F.logsigmoid(BETA * preference).mean() / BETA

    def loss(self, batches):
        return self.forget_loss(batches) + self.retain_loss(batches)

    def step(self, batches):
        self.loss(batches).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def read_batches(options, roles):
    """Per batch a Batch of each role the loss looks at; one width for all roles of a batch, as a collator pads them."""
    made = []
    for sequences in json.loads(Path(options.rows).read_text(encoding="utf-8"))["batches"]:
        used = [s for s in sequences if s["role"] in roles]
        width = max(len(s["ids"]) for s in used) if options.pad == "longest" else int(options.pad)
        for s in used:
            if not 1 <= s["answer_start"] < min(len(s["ids"]), width):
                sys.exit(f"{options.rows}: a {s['role']} row keeps no answer within {width} tokens")
        made.append({role: Batch([s for s in used if s["role"] == role], width) for role in set(roles)})
    return made


def peak_megabytes():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return round(kibibytes * 1024 / 1e6, 1)


def loss_before_any_update(peer, batches):
    with torch.no_grad():
        return float(peer.loss(batches[0]))


def loss_in_fp32_elsewhere(argv):
    """The same command in a process of its own, in fp32 and without steps; of an option given twice the last counts."""
    run = subprocess.run([sys.executable, __file__, *argv, "--dtype", "fp32", "--warmup", "0", "--steps", "0"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])["loss_step0"]


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--rows", required=True, help="JSON of make_rows.py")
    parser.add_argument("--method", default="ME+GD")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--pad", default="longest", help="longest of the batch, or a number of tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--reference", choices=["copy", "adapter-off"], default="copy")
    parser.add_argument("--me-positions", choices=["answer", "all"], default="answer")
    parser.add_argument("--seed", type=int, default=0, help="of LoRA's A")
    options = parser.parse_args(argv)
    forget, _, retain = options.method.partition("+")
    if forget not in FORGET_ROLES or (retain or "none") not in RETAIN_ROLES or (forget == "none" and (retain or "none") == "none"):
        parser.error(f"--method {options.method}: want one of {[*FORGET_ROLES]} + one of {[*RETAIN_ROLES]}")
    if options.pad != "longest" and not options.pad.isdecimal():
        parser.error(f"--pad {options.pad}: want longest or a number")
    return options


def main(argv):
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loss_fp32 = loss_in_fp32_elsewhere(argv) if options.dtype != "fp32" else None
    peer = Peer(options)
    batches = read_batches(options, peer.roles())
    loss = loss_before_any_update(peer, batches)
    loss_fp32 = loss if loss_fp32 is None else loss_fp32
    print(f"loss before any update (fp32): {loss_fp32!r}", flush=True)
    times = []
    for i in range(options.warmup + options.steps):
        if i == options.warmup:
            processor = time.process_time()
        start = time.perf_counter()
        peer.step(batches[i % len(batches)])
        if i >= options.warmup:
            times.append(round((time.perf_counter() - start) * 1e3, 2))
    cpu_ms = round((time.process_time() - processor) * 1e3 / len(times), 2) if times else None
    tokens = statistics.mean(sum(b[role].tokens for role in peer.roles()) for b in batches)
    result = dict(method=options.method, dtype=options.dtype, loss_step0=loss_fp32, loss_step0_in_dtype=loss)
    result.update(ms_median=round(statistics.median(times), 2) if times else None, ms_min=min(times, default=None), ms_all=times, cpu_ms=cpu_ms)
    result.update(real_tokens=round(tokens), peak_MB=peak_megabytes(), reference=peer.reference_kind, pad=options.pad)
    result.update(rank=options.rank, alpha=options.alpha, me_positions=options.me_positions, threads=options.threads)
    result.update(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
