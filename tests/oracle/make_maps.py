"""The 8-bit maps of bitsandbytes (functional.py, create_dynamic_map, 7 exponent bits) with torch's fp32 arithmetic.

Prints the SHA-256 of each map's fp32 numbers, little-endian; tests/java/org/lethe/kernels/DynamicMapsTest.java holds
ours to them.
"""

import hashlib
import struct

import torch


def dynamic_map(signed):
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, (1 if signed else 2) * 2**decade + 1, dtype=torch.float32)
        means = 10 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2.0)
        values += means.tolist()
        if signed:
            values += (-means).tolist()
    return torch.tensor(sorted(values), dtype=torch.float32).tolist()


if __name__ == "__main__":
    for signed in (True, False):
        digest = hashlib.sha256(struct.pack("<256f", *dynamic_map(signed))).hexdigest()
        print("signed  " if signed else "unsigned", digest)
