"""Writes the two tiny Hugging Face model directories all other goldens start from.

Proves: config.json and model.safetensors exactly as transformers' save_pretrained writes them can be read.
Run:    python tests/oracle/make_models.py [--out tests/golden]
Writes: llama-tiny/ and llama-tiny-tied/: config.json, model.safetensors (fp32, random, seeded)
"""

import common


def make(out):
    for name in common.SHAPES:
        common.random_model(name).save_pretrained(out / name)
        # Sampling defaults are no part of the model.
        (out / name / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
