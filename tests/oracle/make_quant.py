"""Quantised weights in bitsandbytes' layout: packed bytes, scales and what they dequantise to; three tiny Llamas stored so.

bitsandbytes ITSELF WAS NOT RUN: it is no requirement of these scripts. Its arithmetic is recreated here in own words from its published source,
github.com/bitsandbytes-foundation/bitsandbytes at 95f9af309d4d5793847169c39288dcd3fcbdf564 (0.50.1 and later):
  csrc/kernels.cu               dQuantizeNF4, dQuantizeFP4 (decision trees), dQuantize (8-bit maps), kQuantizeBlockwise, kDequantizeBlockwise,
                                kInt8VectorQuant; the trees and the order of the nibbles are the same in 0.43.3, 0.44.1, 0.45.0, 0.46.0, 0.47.0 and 0.48.0
  bitsandbytes/functional.py    get_4bit_type, create_dynamic_map, quantize_4bit, dequantize_4bit, QuantState.as_dict
  bitsandbytes/utils.py         pack_dict_to_tensor;   bitsandbytes/_ops.py int8_vectorwise_dequant;   nn/modules.py Int8Params, Linear8bitLt
and the model directories from transformers' integrations/bitsandbytes.py and quantizers/quantizer_bnb_*.py (5.18.0).

Three places where the source alone does not fix the bits, and what is recorded:
  - its GPU build says --use_fast_math, so a GPU's 1/absmax may be an ulp off IEEE's and denormals may be flushed: recorded is IEEE fp32, which the source spells;
  - its CPU paths differ from the GPU kernel on blocks of zeros (code 7, the kernel 0: both mean 0) and by a table of 65536 bins for the 8-bit map:
    recorded is the GPU kernel, without which no such checkpoint was made before 0.46;
  - the mean of the scales is torch's sum, whose order depends on the device: recorded is the fp64 sum, rounded once. It is stored, so reading does not depend on it.

Proves: quantising and dequantising bit for bit; loading such model directories through the ordinary path.
Run:    python tests/oracle/make_quant.py [--out tests/golden]     (after make_models.py and make_forward.py)
Writes: quant/four_bit.json           the cases: name, quant_type, dtype, blocksize, double, elements, and the 16 codes' decision thresholds
        quant/four_bit.safetensors    <case>.input fp32; .weight, .absmax, .quant_map, .nested_absmax, .nested_quant_map, .quant_state as in a checkpoint; .values in dtype
        quant/int8.safetensors        <case>.input in dtype [out, in]; .weight I8, .SCB fp32, .values fp32
        quant/llama-{nf4,nf4-double,int8}/  config.json, model.safetensors, forward.safetensors (ids, lengths, logits, nll as make_forward.py writes them)
"""

import json

import numpy as np
import safetensors.torch
import torch

import common

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]
NF4_ABOVE = [
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984, -0.13791173323988914, -0.045525018125772476,
    0.03979014977812767, 0.1202552504837513, 0.2035212516784668, 0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
]
# By bits: 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4, then the same negated. The kernel's own decimals.
FP4_MAGNITUDES = [0.0, 0.005208333333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25]
FP4_ABOVE = [0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333]
FP4_BY_SIZE = [0, 1, 6, 7, 4, 5, 2, 3]
FOLDER = "quant"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
F = np.float32


def table(kind):
    """What the 16 codes mean to the dequantising kernel; FP4's code 8 is -0."""
    if kind == "nf4":
        return np.array(NF4, F)
    magnitudes = np.array(FP4_MAGNITUDES, F)
    return np.concatenate([magnitudes, magnitudes * F(-1)])


def quant_map(kind):
    """The map as it is stored: FP4's from whole numbers over 12, where code 8 is +0."""
    if kind == "nf4":
        return np.array(NF4, F)
    whole = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3], F)
    return whole / F(12)


def four_bit_code(kind, x):
    """x [n] fp32 in [-1, 1] or NaN -> codes: one more for every threshold that lies strictly below; NaN is above none."""
    if kind == "nf4":
        return (x[:, None] > np.array(NF4_ABOVE, F)).sum(1).astype(np.uint8)
    size = (np.abs(x)[:, None] > np.array(FP4_ABOVE, F)).sum(1)
    return (np.array(FP4_BY_SIZE, np.uint8)[size] + np.where(x < 0, 8, 0)).astype(np.uint8)


def dynamic_map():
    """The signed 8-bit map: seven decades, the i-th with 2^i means of equal steps between 0.1 and 1 on either side, then 0 and 1."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        means = (edges[:-1] + edges[1:]) / 2.0
        for sign in (1, -1):
            values += (sign * 10 ** (i - 6) * means).tolist()
    return np.array(sorted(values), F)


def dynamic_code(map8, x):
    """The kernel's search in so many words: seven halvings from 127, then the nearer neighbour by fp32 midpoints."""
    out = np.zeros(len(x), np.uint8)
    for k, v in enumerate(x):
        pivot, above, below = 127, 255, 0
        for step in (64, 32, 16, 8, 4, 2, 1):
            if v > map8[pivot]:
                below, pivot = pivot, pivot + step
            else:
                above, pivot = pivot, pivot - step
        if v > map8[pivot]:
            out[k] = above if v > (map8[above] + map8[pivot]) * F(0.5) else pivot
        else:
            out[k] = below if v < (map8[below] + map8[pivot]) * F(0.5) else pivot
    return out


def blocks(x, size):
    return [x[i : i + size] for i in range(0, len(x), size)]


@np.errstate(all="ignore")
def normalised(x, absmax):
    """1/0 is infinity and 0 times that NaN, as on the device."""
    return x * (F(1) / absmax)


def scales(x, size):
    absmax = np.array([np.abs(b).max() for b in blocks(x, size)], F)
    return absmax, np.concatenate([normalised(b, m) for b, m in zip(blocks(x, size), absmax)])


def quantise_four_bit(weight, kind, size, double):
    """weight: a tensor -> the checkpoint's tensors, without the module's name."""
    x = weight.detach().to(torch.float32).reshape(-1).numpy()
    absmax, normal = scales(x, size)
    if len(x) % 2:
        # What the kernel loads behind the end is 0, normalised like the last block.
        normal = np.append(normal, normalised(F(0), absmax[-1]))
    code = four_bit_code(kind, normal)
    state = {"quant_type": kind, "blocksize": size, "dtype": str(weight.dtype).removeprefix("torch."), "shape": tuple(weight.shape)}
    stored = {"": (code[0::2] << 4 | code[1::2]).astype(np.uint8)[:, None], "absmax": absmax, "quant_map": quant_map(kind)}
    if double:
        offset = F(absmax.astype(np.float64).sum() / len(absmax))
        assert abs(torch.from_numpy(absmax).mean().item() - offset) <= 4 * np.spacing(offset), "torch's mean is elsewhere"
        map8 = dynamic_map()
        nested, normal8 = scales(absmax - offset, 256)
        stored |= {"absmax": dynamic_code(map8, normal8), "nested_absmax": nested, "nested_quant_map": map8}
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset.item()}
    stored[f"quant_state.bitsandbytes__{kind}"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return {k: torch.from_numpy(v.copy()) for k, v in stored.items()}


def dequantise_four_bit(stored, kind):
    state = json.loads(bytes(stored[f"quant_state.bitsandbytes__{kind}"].numpy()))
    absmax = stored["absmax"].numpy()
    if "nested_absmax" in stored:
        at = np.arange(len(absmax)) // state["nested_blocksize"]
        product = stored["nested_quant_map"].numpy()[absmax] * stored["nested_absmax"].numpy()[at]
        absmax = product + F(state["nested_offset"])
    packed = stored[""].numpy()[:, 0]
    n = int(np.prod(state["shape"]))
    code = np.stack([packed >> 4, packed & 15], 1).reshape(-1)[:n]
    values = table(kind)[code] * absmax[np.arange(n) // state["blocksize"]]
    assert values.dtype == F
    return torch.from_numpy(values).to(DTYPES[state["dtype"]]).reshape(state["shape"])


def quantise_rows(weight):
    """The weight goes through fp16 first, as Int8Params does; a row of zeros stays zeros."""
    x = weight.detach().to(torch.float16).to(torch.float32).numpy()
    largest = np.abs(x).max(1)
    with np.errstate(all="ignore"):
        scaled = x * (F(127) / largest)[:, None]
    code = np.rint(np.nan_to_num(scaled, nan=0.0)).astype(np.int8)
    return torch.from_numpy(code), torch.from_numpy(largest)


def dequantise_rows(code, largest):
    return code.to(torch.float32) * largest[:, None] * 7.874015718698502e-3


def inputs():
    """(name, values) of the four-bit cases."""
    g = torch.Generator().manual_seed(404)
    normal = torch.randn(64 * 16, generator=g)
    yield "normal", normal
    yield "odd", normal[:501]
    yield "one", normal[:1]
    yield "short", normal[:37]
    edges = []
    for kind in (NF4_ABOVE, FP4_ABOVE, [-v for v in FP4_ABOVE], NF4):
        for v in np.array(kind, F):
            edges += [np.nextafter(v, F(-2)), v, np.nextafter(v, F(2))]
    # A 1 in front of every 63, so that no value is scaled.
    rows = np.array_split(np.clip(np.array(edges, F), -1, 1), -(-len(edges) // 63))
    yield "edges", torch.from_numpy(np.concatenate([np.concatenate([np.ones(64 - len(r), F), r]) for r in rows]))
    constant = torch.cat([torch.full((64,), v) for v in (0.0, -0.0, 0.3, -0.3, 1.0)] + [torch.zeros(7)])
    yield "constant", constant
    small = torch.cat([normal[:64] * 1e-40, normal[:64] * 1e-38, normal[:64] * 6e-7, normal[:64] * 1e-5, torch.tensor([0.0, -0.0, 1e-45, -1e-45])])
    yield "tiny", small
    yield "large", torch.cat([normal[:64] * 1e4, normal[64:128] * 3e3, normal[128:160]])
    yield "mixed", torch.cat([torch.zeros(64), normal[:64], -torch.zeros(64), normal[64:101], torch.zeros(63)])


def four_bit_cases():
    values = dict(inputs())
    for kind in ("nf4", "fp4"):
        for name in values:
            for dtype in DTYPES:
                yield kind, name, values[name], dtype, 64, False
        for size in (32, 128, 4096):
            yield kind, "normal", values["normal"], "bfloat16", size, False
        for dtype in DTYPES:
            yield kind, "normal", values["normal"], dtype, 64, True
        yield kind, "odd", values["odd"], "float32", 32, True
        yield kind, "constant", values["constant"], "bfloat16", 64, True
        yield kind, "tiny", values["tiny"], "float32", 64, True
        yield kind, "one", values["one"], "float16", 64, True
    g = torch.Generator().manual_seed(405)
    spread = torch.randn(32 * 300 + 5, generator=g) * torch.linspace(0.1, 3, 32 * 300 + 5)
    yield "nf4", "many", spread, "bfloat16", 32, True


def make_four_bit(out):
    tensors, cases = {}, []
    for kind, name, values, dtype, size, double in four_bit_cases():
        key = f"{kind}-{name}-{dtype}-{size}{'-double' if double else ''}"
        weight = values.to(DTYPES[dtype])
        stored = quantise_four_bit(weight, kind, size, double)
        tensors[f"{key}.input"] = weight.clone()
        tensors[f"{key}.values"] = dequantise_four_bit(stored, kind)
        tensors |= {f"{key}.weight" + ("." + k if k else ""): v for k, v in stored.items()}
        cases.append({"name": key, "quant_type": kind, "dtype": dtype, "blocksize": size, "double": double, "elements": weight.numel()})
    origin = common.provenance(__file__, source="bitsandbytes 95f9af309d4d5793847169c39288dcd3fcbdf564, recreated, not run")
    safetensors.torch.save_file(tensors, out / "four_bit.safetensors", metadata={"provenance": json.dumps(origin, sort_keys=True)})
    common.save_json(out / "four_bit.json", {"provenance": origin, "cases": cases})


def make_int8(out):
    g = torch.Generator().manual_seed(406)
    normal = torch.randn(9, 33, generator=g)
    normal[2] = 0
    normal[3] = 0.25
    normal[4, :4] = torch.tensor([2.0, -2.0, 1.0, -1.0])
    normal[5] = -0.0
    # 127/127 = 1: the scaled values are halves, which are rounded to even.
    normal[6] = torch.arange(33) * 7.5 - 113
    normal[6, 0] = 127
    normal[7] *= 3e-7
    normal[8] *= 1e4
    tensors = {}
    for name, dtype in DTYPES.items():
        weight = normal.to(dtype)
        code, largest = quantise_rows(weight)
        tensors |= {f"{name}.input": weight.clone(), f"{name}.weight": code, f"{name}.SCB": largest, f"{name}.values": dequantise_rows(code, largest)}
    origin = common.provenance(__file__, source="bitsandbytes 95f9af309d4d5793847169c39288dcd3fcbdf564, recreated, not run")
    safetensors.torch.save_file(tensors, out / "int8.safetensors", metadata={"provenance": json.dumps(origin, sort_keys=True)})


def config_of(kind, double, dtype):
    """quantization_config as transformers' BitsAndBytesConfig writes it into config.json."""
    config = transformers_config(
        load_in_4bit=kind != "int8",
        load_in_8bit=kind == "int8",
        **({} if kind == "int8" else dict(bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=dtype)),
    )
    return json.loads(config.to_json_string(use_diff=False))


def transformers_config(**options):
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**options)


@torch.no_grad()
def make_model(out, golden, name, kind, double, dtype):
    directory = out / name
    directory.mkdir(exist_ok=True)
    model = common.load_model(golden, common.UNTIED).to(DTYPES[dtype])
    tensors = {}
    for key, weight in list(model.state_dict().items()):
        module = key.removesuffix(".weight")
        if not module.endswith("_proj"):
            tensors[key] = weight.clone()
        elif kind == "int8":
            code, largest = quantise_rows(weight)
            tensors |= {key: code, f"{module}.SCB": largest, f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8)}
            model.get_submodule(module).weight = torch.nn.Parameter(dequantise_rows(code, largest))
        else:
            stored = quantise_four_bit(weight, kind, 64, double)
            tensors |= {key + ("." + k if k else ""): v for k, v in stored.items()}
            model.get_submodule(module).weight = torch.nn.Parameter(dequantise_four_bit(stored, kind))
    safetensors.torch.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((golden / common.UNTIED / "config.json").read_text())
    config |= {"dtype": dtype, "quantization_config": config_of(kind, double, dtype)}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    exact = common.lift_to_float64(model)
    rows = common.sequences(common.UNTIED)
    z = [common.logits(exact, ids) for ids in rows]
    forward = {
        "ids": torch.tensor(sum(rows, [])),
        "lengths": torch.tensor([len(ids) for ids in rows]),
        "logits": torch.cat(z),
        "nll": torch.cat([common.shifted_nll(a, ids) for a, ids in zip(z, rows)]),
    }
    common.save_tensors(directory / "forward.safetensors", forward, common.provenance(__file__, model=name))
    plain = [common.logits(common.lift_to_float64(common.load_model(golden, common.UNTIED)), ids) for ids in rows]
    print(f"{name}: logits moved by {max((a - b).abs().max().item() for a, b in zip(plain, z)):.3f} of {torch.cat(z).abs().max():.3f}")


def make(out):
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    make_four_bit(folder)
    make_int8(folder)
    make_model(folder, out, "llama-nf4", "nf4", False, "float32")
    make_model(folder, out, "llama-nf4-double", "nf4", True, "bfloat16")
    make_model(folder, out, "llama-int8", "int8", False, "float16")


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
