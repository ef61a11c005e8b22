"""Small tokenizers made on the spot, and rows to feed them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(200)]


class Counting:
    """A tokenizer that counts its calls."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.tokenizer(*args, **kwargs)


@pytest.fixture
def words() -> Counting:
    """One token a word, [CLS] a [SEP] b [SEP] with token types, as BERT has them."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return Counting(PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names))


def byte_tokenizer(*, adds_bos: bool) -> Counting:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, "<bos>", "<eos>"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 256)])
    return Counting(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>"))


@pytest.fixture
def letters() -> Counting:
    """One token a byte, no pad token, nothing added: as GPT-2's."""
    return byte_tokenizer(adds_bos=False)


@pytest.fixture
def letters_with_bos() -> Counting:
    """The same, but a begin-of-sequence token is put in front: as Llama's."""
    return byte_tokenizer(adds_bos=True)
