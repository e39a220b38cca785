"""Logits, token losses and greedy continuations of the two tiny models by transformers in float64.

Proves: the decoder forward (grouped queries, rotary, untied and tied head) and decoding with a KV cache.
Run:    python tests/oracle/make_forward.py [--out tests/golden]     (after make_models.py)
Writes: <model>/forward.safetensors
          ids            int32 [sum T]        three sequences end to end
          lengths        int32 [3]
          logits         fp32  [sum T, V]     computed in float64
          nll            fp32  [sum (T-1)]    position t of a sequence predicts its token t+1
          greedy         int32 [3, 5]         tokens continued from each whole sequence, with a KV cache
          greedy_margin  fp32  [3, 5]         best minus second logit: how far each choice is from a tie
The maker stops if transformers in plain fp32 is further than 1e-4 from the float64 logits.
"""

import torch

import common

GREEDY_TOKENS = 5
FP32_LIMIT = 1e-4


def greedy(model, ids):
    tokens, margins, cache = [], [], None
    step = torch.tensor([ids])
    for _ in range(GREEDY_TOKENS):
        output = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        best = output.logits[0, -1].topk(2)
        tokens.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
        step = best.indices[:1][None]
    return tokens, margins


@torch.no_grad()
def make(out):
    for name in common.SHAPES:
        rows = common.sequences(name)
        plain = [common.logits(common.load_model(out, name), ids) for ids in rows]
        model = common.lift_to_float64(common.load_model(out, name))
        exact = [common.logits(model, ids) for ids in rows]
        far = max((a - b).abs().max().item() for a, b in zip(plain, exact))
        assert far < FP32_LIMIT, f"{name}: fp32 is {far} from float64"
        chosen = [greedy(model, ids) for ids in rows]
        tensors = {
            "ids": torch.tensor(sum(rows, [])),
            "lengths": torch.tensor([len(ids) for ids in rows]),
            "logits": torch.cat(exact),
            "nll": torch.cat([common.shifted_nll(z, ids) for z, ids in zip(exact, rows)]),
            "greedy": torch.tensor([tokens for tokens, _ in chosen]),
            "greedy_margin": torch.tensor([margins for _, margins in chosen]),
        }
        common.save_tensors(out / name / "forward.safetensors", tensors, common.provenance(__file__, model=name))
        print(f"{name}: logit spread {torch.cat(exact).std():.3f}, fp32 within {far:.1e}, smallest greedy margin {tensors['greedy_margin'].min():.3f}")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
