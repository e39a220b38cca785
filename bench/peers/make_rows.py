"""Writes the rows an unlearning step is timed on: batches of forget and retain rows, each with its own answer and with a refusal.

Run: python bench/peers/make_rows.py --out rows.json --vocab 32000 --batch 8 --seq 128 --rows dense
     python bench/peers/make_rows.py --out rows.json --vocab 32000 --batch 8 --rows tofu --tofu DIR
dense: every sequence has --seq tokens, a third of them question, so nothing is padded.
tofu:  token counts are estimated from the texts of DIR/full.json at 4.2 characters a token: the question with 4 tokens of template, the
       answer with its eos. Refusals are as long as lines of DIR/idontknow.txt. Only lengths come from the texts; tokens are random.
Writes {"vocab", "rows", "seed", "batches": [[{"role", "pair", "ids", "answer_start"}, ...], ...]}
       role: FORGET | RETAIN | FORGET_IDK | RETAIN_IDK (the row's question with a refusal); pair: 0..batch-1 within the batch;
       labels are ids[answer_start:]; the last is eos.
"""

import argparse
import json
import math
import random
from pathlib import Path

EOS = 2
FIRST_ORDINARY_ID = 3
CHARACTERS_PER_TOKEN = 4.2
TEMPLATE_TOKENS = 4


def estimated_tokens(text):
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def tofu_lengths(directory, rows, generator):
    """(question, answer, refusal) tokens of `rows` distinct examples."""
    examples = [json.loads(line) for line in (directory / "full.json").read_text(encoding="utf-8").splitlines() if line.strip()]
    refusals = [line for line in (directory / "idontknow.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        (TEMPLATE_TOKENS + estimated_tokens(e["question"]), estimated_tokens(e["answer"]) + 1, estimated_tokens(generator.choice(refusals)) + 1)
        for e in generator.sample(examples, rows)
    ]


def batch(lengths, vocabulary, generator):
    """lengths: one (question, answer, refusal) per forget row, then one per retain row."""

    def tokens(n):
        return [generator.randrange(FIRST_ORDINARY_ID, vocabulary) for _ in range(n)]

    half = len(lengths) // 2
    made = []
    for i, (question, own, refusal) in enumerate(lengths):
        role, prompt = ("FORGET" if i < half else "RETAIN"), tokens(question)
        for kind, answer in ((role, own), (role + "_IDK", refusal)):
            made.append({"role": kind, "pair": i % half, "ids": prompt + tokens(answer - 1) + [EOS], "answer_start": question})
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8, help="forget rows, and as many retain rows")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--seq", type=int, default=128, help="tokens of a dense row")
    parser.add_argument("--rows", choices=["dense", "tofu"], default="dense")
    parser.add_argument("--tofu", type=Path, help="folder with full.json and idontknow.txt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.rows == "tofu" and options.tofu is None:
        parser.error("--rows tofu needs --tofu DIR")
    if options.rows == "dense" and options.seq < 3:
        parser.error("--seq needs at least 3 tokens")
    generator = random.Random(options.seed)
    question = options.seq // 3
    dense = [(question, options.seq - question, options.seq - question)] * (2 * options.batch)
    batches = []
    for _ in range(options.batches):
        lengths = dense if options.rows == "dense" else tofu_lengths(options.tofu, 2 * options.batch, generator)
        batches.append(batch(lengths, options.vocab, generator))
    document = {"vocab": options.vocab, "rows": options.rows, "seed": options.seed, "batches": batches}
    options.out.write_text(json.dumps(document), encoding="utf-8")
    counts = [sum(len(s["ids"]) for s in b) for b in batches]
    print(f"{options.out}: {len(batches)} batches of {options.batch}+{options.batch} rows, tokens over all four roles {counts}")


if __name__ == "__main__":
    main()
