"""Makes all goldens in order and writes SHA256SUMS; with --check makes them aside and compares bytes instead.

Proves: the committed goldens are what these scripts make, and making them twice gives the same bytes.
Run:    python tests/oracle/make_goldens.py [--out tests/golden] [--check]
Writes: everything under tests/golden; the bytes hold for the versions named in the goldens (see README.md) and one instruction set.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import common
import make_families
import make_dropout
import make_forward
import make_full_gradients
import make_lora
import make_methods
import make_models
import make_parity
import make_peft
import make_quant
import make_tokenizers
import make_view_methods
import make_views

LIMIT_BYTES = 6_000_000

# In the order they run: later ones read what earlier ones wrote.
MAKERS = (
    make_models,
    make_forward,
    make_full_gradients,
    make_lora,
    make_methods,
    make_parity,
    make_tokenizers,
    make_views,
    make_families,
    make_view_methods,
    make_peft,
    make_dropout,
    make_quant,
)

# Every folder under tests/golden that they write.
MADE = (
    common.UNTIED,
    common.TIED,
    make_methods.FOLDER,
    make_tokenizers.FOLDER,
    make_views.FOLDER,
    "families",
    make_peft.FOLDER,
    make_dropout.FOLDER,
    make_quant.FOLDER,
)


def digests(out):
    files = sorted(p for name in MADE for p in (out / name).rglob("*") if p.is_file())
    size = sum(p.stat().st_size for p in files)
    assert size < LIMIT_BYTES, f"{size} bytes of goldens"
    return "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(out).as_posix()}\n" for p in files)


def make(out):
    for maker in MAKERS:
        maker.make(out)
    return digests(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=common.GOLDEN)
    parser.add_argument("--check", action="store_true", help="compare with SHA256SUMS and the files in --out, change nothing")
    options = parser.parse_args()
    common.prepare()
    if not options.check:
        (options.out / "SHA256SUMS").write_text(make(options.out), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory() as aside:
        remade = make(Path(aside))
    wanted = (options.out / "SHA256SUMS").read_text(encoding="utf-8")
    same = remade == wanted == digests(options.out)
    print("identical" if same else "DIFFERENT", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
