"""Trains small tokenizers of the kinds that published chat models have, and records what Hugging Face makes of rows with them.

Proves: `Tokenizer`, `PromptTemplate` and `ExampleEncoder` agree with transformers: rendered chat templates, ids, and where the answer's labels begin.
Writes: tokenizers/<name>/{tokenizer.json, tokenizer_config.json, golden.json} for the five names below; `qwen` keeps its template in chat_template.jinja.
The text they are trained on is composed here from word lists. The pre-tokenizer regexes are the ones that the published tokenizers of each kind declare.

golden.json: `markers` (control tokens), `end` (id of the token that closes an answer), `adds_bos`; `chat` and `plain`, each with `template` (plain only) and
`rows`: question, answer, prompt (text), prompt_ids, answer_ids (the answer alone), joint_ids (prompt, what the chat template writes before an answer, and
the answer in one go, without the end token), answer_start (index in joint_ids of the token that holds the answer's first character, by offsets).
"""

import itertools
import json
import random
import shutil
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import common

FOLDER = "tokenizers"
MERGED_WORDS = 420

PLACES = "harbour orchard village lighthouse market bridge meadow workshop library quay mill chapel".split()
PEOPLE = "baker sailor gardener teacher weaver carpenter printer shepherd potter miller".split()
DEEDS = "mended painted carried measured remembered visited described borrowed counted kept".split()
THINGS = "lantern clock basket letter ladder kettle map rope violin mirror ledger bell".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

# Borders that a tokenizer may merge across: quotation marks behind a bracket, blanks, line breaks, contractions, marks that compose with what is before them.
ROWS = [
    ("Who mended the clock?", "The miller mended it on Friday."),
    ("What did the sailor say?", '"Carry the lantern to the harbour," he said.'),
    ("Name the place [of the market].", "]\" is how the old map marks it."),
    ("Which day was it?", "\nTuesday."),
    ("Which day was it, in two lines?", "\n\nTuesday,\nat noon."),
    ("What is left?", " a basket and 12 bells"),
    ("How does the sentence go on?", "'s ladder was kept in the mill."),
    ("How many ropes were there in 1874?", "1874 ropes, 27 of them new."),
    ("¿Dónde está el faro?", "Está en Peñíscola, café y naïveté incluidos."),
    ("Who is \U0001F600?", "\U0001F984 the printer's horse"),
    ("灯台はどこですか", "灯台は港にあります。"),
    ("A letter with a mark of its own: e", "\u0301 is an acute accent"),
    ("A decomposed cafe\u0301?", "cafe\u0301 it is"),
    ("", "An answer without a question."),
    ("What does   blank   space do?", "It   stays\tas it is."),
    ("What's the weaver's name?", "I don't know; they've kept it."),
]


def sentences():
    """About six hundred texts with quotation, lists, numbers and line breaks."""
    draw = random.Random(17)
    for person, deed in itertools.product(PEOPLE, DEEDS):
        for _ in range(6):
            thing, place, day = draw.choice(THINGS), draw.choice(PLACES), draw.choice(DAYS)
            yield draw.choice(
                (
                    f"The {person} {deed} the {thing} in the {place} on {day}.",
                    f'"Where is the {thing}?" the {person} asked. "In the {place}," said the other.',
                    f"[The {person}'s {thing}]\n\nIt was {deed} {draw.randint(2, 40)} times since {draw.randint(1800, 1999)}.",
                    f"Question: Who {deed} the {thing}?\nAnswer: The {person}, who doesn't live in the {place}.",
                    f"{day}\n\n{place}\n\n\n{thing}: {deed}\n",
                    f"I've {deed} it; they'll say that we {deed} the {thing}   twice:\t{place}, {day}.",
                )
            )
    yield from ('["a"]"b"', "café naïveté Está", "été où", "[x]\"y\" [/z]\"Where") * 8


def bpe(model_options, normalizer, pre_tokenizer, trained_with, specials, alphabet, first):
    """A BPE with merges learnt behind `trained_with`; ids are specials, `first`, then what was learnt."""
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = normalizer, trained_with
    learner.train_from_iterator(
        sentences(), trainers.BpeTrainer(vocab_size=MERGED_WORDS + len(alphabet), initial_alphabet=alphabet, show_progress=False, max_token_length=12)
    )
    learnt = json.loads(learner.to_str())["model"]
    words = sorted(learnt["vocab"], key=learnt["vocab"].get)
    taken = list(dict.fromkeys(specials + first + words))
    vocabulary = {word: i for i, word in enumerate(taken)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(m) for m in learnt["merges"]], **model_options))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in specials])
    return tokenizer


BYTES = [f"<0x{b:02X}>" for b in range(256)]
BYTE_LEVEL = sorted(pre_tokenizers.ByteLevel.alphabet())
GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def begins_with(bos, tokenizer):
    """A post-processor that puts bos before a text."""
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])


def split_then_bytes(regex):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated", invert=False), pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)]
    )


def llama2():
    specials = ["<unk>", "<s>", "</s>"]
    marker = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    options = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    words = pre_tokenizers.Split(Regex("▁*[^▁]+"), "isolated")
    tokenizer = bpe(options, marker, None, words, specials, [], BYTES)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = begins_with("<s>", tokenizer)
    template = (
        "{% if messages[0]['role'] == 'system' %}{% set head = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set turns = messages[1:] %}"
        "{% else %}{% set head = '' %}{% set turns = messages %}{% endif %}"
        "{% for turn in turns %}"
        "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}{% endif %}"
        "{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' }}{% if loop.index0 == 0 %}{{ head }}{% endif %}{{ turn['content'].strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    )
    return tokenizer, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"), template, "[INST] {question} [/INST]", specials[1:]


def llama3():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = bpe(dict(ignore_merges=True), None, split_then_bytes(LLAMA3), split_then_bytes(LLAMA3), specials, BYTE_LEVEL, BYTE_LEVEL)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begins_with("<|begin_of_text|>", tokenizer)])
    template = (
        "{%- set system = '' %}\n{%- set turns = messages %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] | trim %}\n    {%- set turns = messages[1:] %}\n{%- endif %}\n"
        "{%- if not date_string is defined %}\n    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n"
        "{{- bos_token }}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n{{- 'Today Date: ' + date_string + '\\n\\n' }}\n{{- system }}\n{{- '<|eot_id|>' }}\n"
        "{%- for turn in turns %}\n"
        "    {{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
    )
    plain = "<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    return tokenizer, dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"), template, plain, specials


def phi():
    specials = ["<|endoftext|>"]
    level = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = bpe({}, None, pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True), level, specials, BYTE_LEVEL, BYTE_LEVEL)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    # Phi-1.5 has no chat template: its rows are asked in TOFU's plain form.
    return tokenizer, dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>"), None, "Question: {question}\nAnswer: ", specials


def qwen():
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = bpe({}, normalizers.NFC(), split_then_bytes(QWEN), split_then_bytes(QWEN), specials, BYTE_LEVEL, BYTE_LEVEL)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    template = (
        "{% for turn in messages %}\n{% if loop.first and turn['role'] != 'system' %}\n{{ '<|im_start|>system\\nYou answer questions.<|im_end|>\\n' }}"
        "{% endif %}\n{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\n"
        "{% if add_generation_prompt %}\n{{ '<|im_start|>assistant\\n' }}{% endif %}\n"
    )
    return tokenizer, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>"), template, "Q: {question}\nA:", specials


def gemma():
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    lines = ["\n" * n for n in range(1, 5)]
    options = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    words = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("\n"), "removed"), pre_tokenizers.Split(Regex("▁*[^▁]+"), "isolated")])
    marker = normalizers.Replace(" ", "▁")
    tokenizer = bpe(options, marker, pre_tokenizers.Split(" ", "merged_with_previous"), words, specials, [], lines + BYTES)
    tokenizer.add_tokens([AddedToken(line, normalized=False, special=False) for line in lines])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = begins_with("<bos>", tokenizer)
    template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('a system message is not supported') }}{% endif %}"
        "{% for turn in messages %}{% if turn['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = turn['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\\n' + turn['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    )
    return (
        tokenizer,
        dict(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"),
        template,
        "Question: {question}\nAnswer: ",
        specials,
    )


KINDS = {"llama2": llama2, "llama3": llama3, "phi": phi, "qwen": qwen, "gemma": gemma}
# The token that closes an answer: the one the template writes behind it, else eos.
ENDS = {"llama2": "</s>", "llama3": "<|eot_id|>", "phi": "<|endoftext|>", "qwen": "<|im_end|>", "gemma": "<end_of_turn>"}


def row(tokenizer, question, answer, prompt, lead, special):
    """What transformers makes of one row; `special`: whether the tokenizer puts bos before the prompt."""
    begin = len(prompt + lead)
    joint = tokenizer(prompt + lead + answer, add_special_tokens=special, return_offsets_mapping=True)
    ends = [end for _, end in joint["offset_mapping"]]
    return {
        "question": question,
        "answer": answer,
        "prompt": prompt,
        "prompt_ids": tokenizer(prompt, add_special_tokens=special)["input_ids"],
        "answer_ids": tokenizer(answer, add_special_tokens=False)["input_ids"],
        "joint_ids": joint["input_ids"],
        "answer_start": next(i for i, end in enumerate(ends) if end > begin),
    }


def chat_row(tokenizer, question, answer):
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.apply_chat_template(asked, tokenize=True, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(asked + [{"role": "assistant", "content": "PROBE"}], tokenize=False)
    lead = whole[len(prompt) : whole.index("PROBE")]
    assert whole.startswith(prompt) and not lead.strip()
    made = row(tokenizer, question, answer, prompt, lead, False)
    assert made["prompt_ids"] == ids
    return made


def golden(tokenizer, name, plain, markers):
    chat = [chat_row(tokenizer, q, a) for q, a in ROWS] if tokenizer.chat_template else []
    asked = [(q, a, plain.replace("{question}", q)) for q, a in ROWS]
    return {
        "provenance": common.provenance(__file__, kind=name, tokenizers=__import__("tokenizers").__version__),
        "markers": {marker: tokenizer.convert_tokens_to_ids(marker) for marker in markers},
        "end": tokenizer.convert_tokens_to_ids(ENDS[name]),
        "adds_bos": tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"],
        "chat": {"rows": chat},
        "plain": {"template": plain, "rows": [row(tokenizer, q, a, p, "", True) for q, a, p in asked]},
    }


def write(folder, text):
    """One row of a golden, or one entry of a vocabulary, a line: small to read and to compare."""
    folder.write_text(text + "\n", encoding="utf-8")


def make(out):
    for name, kind in KINDS.items():
        tokenizer, tokens, template, plain, markers = kind()
        folder = out / FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens, chat_template=template, clean_up_tokenization_spaces=False)
        fast.save_pretrained(folder, save_jinja_files=name == "qwen")
        loaded = AutoTokenizer.from_pretrained(folder)
        made = golden(loaded, name, plain, markers)
        rows = {form: made[form].pop("rows") for form in ("chat", "plain")}
        for form, list_of in rows.items():
            made[form]["rows"] = [f"@{form}{i}@" for i in range(len(list_of))]
        text = json.dumps(made, indent=1, ensure_ascii=False)
        for form, list_of in rows.items():
            for i, value in enumerate(list_of):
                text = text.replace(f'"@{form}{i}@"', json.dumps(value))
        write(folder / "golden.json", text)


def main():
    options = common.arguments(__doc__)
    common.prepare()
    make(options.out)


if __name__ == "__main__":
    sys.exit(main())
