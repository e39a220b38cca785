"""Writes a Hugging Face Llama directory with random weights (config.json, model.safetensors in fp32), for peers and benchmarks.

Run: python bench/peers/make_model.py --out DIR --layers 4 --hidden 512 --heads 8 --ffn 1344 --vocab 32000 --seed 0 [--kv N] [--tied]
The same arguments and library versions give the same weights.
"""

import argparse

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    for name in ("layers", "hidden", "heads", "ffn", "vocab"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--kv", type=int, help="kv heads; as many as heads unless given")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tied", action="store_true", help="the head is the embedding")
    options = parser.parse_args()
    if options.hidden % options.heads:
        parser.error(f"--hidden {options.hidden} is no multiple of --heads {options.heads}")
    return options


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv or options.heads,
        intermediate_size=options.ffn,
        max_position_embeddings=options.context,
        tie_word_embeddings=options.tied,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(options.out, max_shard_size="50GB")
    print(f"{options.out}: {model.num_parameters() / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
