"""Prompts and completions of seq2seq: each in the tokenizer's own special tokens, cut only where it may be."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from src.data import IGNORED, collate, load_task
from src.data.rows import Rows
from src.data.tokens import TokenSplit, tokenise, tokenizer_fingerprint
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec

SPEC = TaskSpec("x.csv", "seq2seq", prompt="{p}#", completion="{c}", max_length=10, metric="loss")


def run(rows: Rows, spec: TaskSpec, tokenizer: Any, cache: Path) -> tuple[list[str], list[str], dict[str, Any]]:
    """What the encoder and what the decoder is given, as text."""
    tensors, counts = tokenise(rows, spec, tokenizer, tokenizer_fingerprint(tokenizer), cache)
    split = TokenSplit(**tensors)
    assert split.target_ids is not None and split.target_offsets is not None
    inputs = [tokenizer.decode(split.input_ids[a:b]) for a, b in pairwise(split.offsets.tolist())]
    targets = [tokenizer.decode(split.target_ids[a:b]) for a, b in pairwise(split.target_offsets.tolist())]
    assert split.num_tokens == len(split.input_ids) + len(split.target_ids)
    return inputs, targets, {**tensors, **counts}


@pytest.fixture
def closing(letters: Any) -> Any:
    """One token a byte and <eos> behind each text, as T5's tokenizer does."""
    post = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", letters.eos_token_id)])
    letters.tokenizer.backend_tokenizer.post_processor = post
    return letters


@pytest.fixture
def enclosing(letters: Any) -> Any:
    """<bos> before and <eos> behind each text, as BART's tokenizer does."""
    special = [("<bos>", letters.bos_token_id), ("<eos>", letters.eos_token_id)]
    letters.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<bos> $A <eos>", None, special)
    return letters


ROWS = Rows(["ab", "abcdefghijkl"], None, ["xy", "uvw"], cue="#")


def test_the_tokenizers_special_tokens_stand_around_both(enclosing: Any, tmp_path: Path) -> None:
    inputs, targets, found = run(ROWS, SPEC, enclosing, tmp_path)
    assert inputs == ["<bos>ab#<eos>", "<bos>abcdefg#<eos>"]  # cut to 10 tokens; neither cue nor special tokens are
    assert targets == ["<bos>xy<eos>", "<bos>uvw<eos>"]
    assert (found["truncated"], found["too_long"], found["rows"].tolist()) == (1, 0, [0, 1])


def test_inputs_are_what_the_tokenizer_itself_makes_of_short_prompts(closing: Any, tmp_path: Path) -> None:
    inputs, targets, found = run(ROWS.take([0]), SPEC, closing, tmp_path)
    assert found["input_ids"].tolist() == closing("ab#")["input_ids"]
    assert found["target_ids"].tolist() == closing(text_target="xy")["input_ids"]
    assert (inputs, targets) == (["ab#<eos>"], ["xy<eos>"])


def test_a_target_ends_with_eos_also_where_the_tokenizer_adds_none(letters: Any, tmp_path: Path) -> None:
    inputs, targets, _ = run(ROWS.take([0]), SPEC, letters, tmp_path)
    assert (inputs, targets) == (["ab#"], ["xy<eos>"])


def test_completions_that_do_not_fit_are_dropped_and_counted(closing: Any, tmp_path: Path) -> None:
    rows = Rows(["a" * 20, "b", "c" * 20], None, ["x" * 10, "x" * 9, "y"])
    inputs, targets, found = run(rows, SPEC, closing, tmp_path)
    assert inputs == ["b<eos>", "c" * 9 + "<eos>"]
    assert targets == ["x" * 9 + "<eos>", "y<eos>"]
    assert (found["truncated"], found["too_long"], found["rows"].tolist()) == (1, 1, [1, 2])
    with pytest.raises(HarnessError, match=r"fits in task.max_length = 10 tokens; the shortest needs 11"):
        run(rows.take([0]), SPEC, closing, tmp_path)


def test_a_cue_must_leave_room_for_a_prompt(closing: Any, tmp_path: Path) -> None:
    long = dataclasses.replace(ROWS, cue="in a few words:")
    with pytest.raises(HarnessError, match=r"task.max_length = 10 leaves no room for a prompt.* take 16"):
        run(long, SPEC, closing, tmp_path)


def test_a_tokenizer_without_eos_cannot_write(words: Any, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"no end-of-sequence token, which a seq2seq task needs.*t5-small"):
        run(Rows(["w1"], None, ["w2"]), SPEC, words, tmp_path)


def test_the_cache_tells_the_kinds_apart(letters: Any, tmp_path: Path) -> None:
    run(ROWS, SPEC, letters, tmp_path)
    letters.calls = 0
    run(ROWS, SPEC, letters, tmp_path)
    assert letters.calls == 0
    other = dataclasses.replace(SPEC, kind="causal_lm")
    tensors, _ = tokenise(ROWS, other, letters, tokenizer_fingerprint(letters), tmp_path)
    assert letters.calls > 0
    assert "target_ids" not in tensors


def test_batches_pad_inputs_and_targets_each_to_their_longest() -> None:
    split = TokenSplit(
        torch.arange(5, 12).int(), torch.tensor([0, 3, 4, 7]),
        target_ids=torch.arange(50, 56).int(), target_offsets=torch.tensor([0, 1, 5, 6]),
    )  # fmt: skip
    batch = collate(split, torch.tensor([1, 0]), pad_id=0)
    assert batch.decodes
    assert batch.input_ids is not None
    assert batch.input_ids.tolist() == [[8, 0, 0], [5, 6, 7]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.labels.tolist() == [[51, 52, 53, 54], [50, *[IGNORED] * 3]]
    assert (batch.length, batch.target_length, batch.num_tokens) == (3, 4, 9)


def test_a_jsonl_file_becomes_a_task(letters: Any, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [{"en": f"{chr(97 + i)}word", "de": f"{chr(97 + i)}Wort", "note": None} for i in range(20)]
    lines[7]["de"] = None
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = TaskSpec(str(file), "seq2seq", prompt="translate: {en}", completion="{de}!", test_split=None, metric="loss")
    data = load_task(spec, letters, tmp_path)
    assert (data.num_labels, data.label_names) == (0, None)
    assert {role: counts["incomplete"] for role, counts in data.report["splits"].items()}["train"] == 1
    first = collate(data.test, torch.tensor([0]), data.pad_id)
    assert first.input_ids is not None
    assert letters.decode(first.input_ids[0]).startswith("translate: ")
    assert letters.decode(first.labels[0]).endswith("Wort!<eos>")
    assert data.test_completions is not None
    assert data.test_completions[0] + "<eos>" == letters.decode(first.labels[0])
    tokens = data.report["splits"]["test"]["tokens"]
    assert tokens == data.test.num_tokens
    with pytest.raises(ConfigError, match=r"task.completion"):
        load_task(dataclasses.replace(spec, completion="{fr}"), letters, tmp_path)
