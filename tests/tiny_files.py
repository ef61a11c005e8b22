"""A tiny model and tiny data on disk: what a person has who brings their own."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny

SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[EOS]")  # [PAD] is 1, as RoBERTa has it
WORDS = tuple(f"w{i}" for i in range(len(SPECIAL), 100))
COLOURS = ("red", "green", "blue")


def save_model(folder: Path, model_type: str = "bert", *, causal_lm: bool = False, seq2seq: bool = False) -> Path:
    """A model of 100 words in float32 with its tokenizer, as transformers saves them."""
    tiny(model_type, causal_lm=causal_lm, seq2seq=seq2seq).to(torch.float32).save_pretrained(folder)
    word_tokenizer(cls=model_type in {"bert", "roberta"}).save_pretrained(folder)
    return folder


def word_tokenizer(*, cls: bool = True) -> PreTrainedTokenizerFast:
    """One token a word; for encoders [CLS] a [SEP] b [SEP] with token types."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inputs = ["input_ids", "attention_mask"]
    if cls:
        inputs.append("token_type_ids")
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=inputs, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]"
    )


def write_csv(file: Path, rows: int = 90, *, seed: int = 0, labels: Sequence[str] = COLOURS) -> Path:
    """Texts of 4 to 12 different words; the label follows from the first word, so it can be learnt."""
    draw = random.Random(seed)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            words = draw.sample(WORDS, draw.randint(4, 12))
            writer.writerow([" ".join(words), labels[int(words[0][1:]) % len(labels)]])
    return file
