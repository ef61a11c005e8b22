"""Token ids, and the cache: a second call does not tokenise, a damaged file is made again."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from src.data.rows import Rows
from src.data.tokens import TokenSplit, tokenise, tokenizer_fingerprint
from src.errors import HarnessError
from src.spec import TaskSpec

CLASSIFY = TaskSpec("x.csv", "classification", max_length=8)
COMPLETE = TaskSpec("x.csv", "causal_lm", prompt="{p}", completion="{c}", max_length=12, metric="loss")
ROWS = Rows(["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11"], None, ["a", "b", "a"])


def run(rows: Rows, spec: TaskSpec, tokenizer: Any, cache: Path) -> tuple[list[list[int]], dict[str, Any]]:
    tensors, counts = tokenise(rows, spec, tokenizer, tokenizer_fingerprint(tokenizer), cache)
    split = TokenSplit(**tensors)
    bounds = split.offsets.tolist()
    ids = [split.input_ids[a:b].tolist() for a, b in pairwise(bounds)]
    assert split.lengths.tolist() == list(map(len, ids))
    assert len(split) == len(ids)
    return ids, {**tensors, **counts}


def test_ids_are_the_tokenizers_own(words: Any, tmp_path: Path) -> None:
    ids, found = run(ROWS, CLASSIFY, words, tmp_path)
    assert ids == [words(text, truncation=True, max_length=8)["input_ids"] for text in ROWS.texts]
    assert (found["truncated"], found["too_long"]) == (1, 0)
    assert "pair_starts" not in found


def test_pairs_are_cut_together_and_the_second_text_is_marked(words: Any, tmp_path: Path) -> None:
    rows = dataclasses.replace(ROWS, pairs=["w20", "w21 w22", "w23 w24 w25 w26 w27"])
    ids, found = run(rows, CLASSIFY, words, tmp_path)
    for i, (text, pair) in enumerate(zip(rows.texts, rows.pairs or [], strict=True)):
        alone = words(text, pair, truncation=True, max_length=8)
        assert ids[i] == alone["input_ids"]
        types = [int(position >= found["pair_starts"][i]) for position in range(len(ids[i]))]
        assert types == alone["token_type_ids"]
    assert found["truncated"] == 1


def test_many_rows_keep_their_order(words: Any, tmp_path: Path) -> None:
    rows = Rows([f"w{i % 200}" for i in range(2500)], None, ["a"] * 2500)
    ids, _ = run(rows, CLASSIFY, words, tmp_path)
    assert [example[1] for example in ids] == [4 + i % 200 for i in range(2500)]


def test_second_call_does_not_tokenise(words: Any, tmp_path: Path) -> None:
    first = run(ROWS, CLASSIFY, words, tmp_path)
    assert words.calls > 0
    words.calls = 0
    again = run(ROWS, CLASSIFY, words, tmp_path)
    assert words.calls == 0
    assert first[0] == again[0]
    assert (first[1]["truncated"], first[1]["too_long"]) == (again[1]["truncated"], again[1]["too_long"])


@pytest.mark.parametrize("change", ["text", "target", "max_length", "tokenizer"])
def test_whatever_changes_the_tokens_misses_the_cache(change: str, words: Any, letters: Any, tmp_path: Path) -> None:
    run(ROWS, CLASSIFY, words, tmp_path)
    words.calls = 0
    match change:
        case "text":
            run(dataclasses.replace(ROWS, texts=["w1 w2 w4", *ROWS.texts[1:]]), CLASSIFY, words, tmp_path)
        case "target":
            run(dataclasses.replace(ROWS, targets=["b", "b", "a"]), CLASSIFY, words, tmp_path)
        case "max_length":
            run(ROWS, dataclasses.replace(CLASSIFY, max_length=7), words, tmp_path)
        case "tokenizer":
            run(ROWS, CLASSIFY, letters, tmp_path)
    assert words.calls + letters.calls > 0


def test_fingerprint_is_of_the_tokenizer_not_of_its_last_call(words: Any, letters: Any) -> None:
    before = tokenizer_fingerprint(words)
    words("w1 w2 w3", truncation=True, max_length=3)
    assert tokenizer_fingerprint(words) == before
    assert tokenizer_fingerprint(letters) != before
    words.tokenizer.add_tokens(["w1000"])
    assert tokenizer_fingerprint(words) != before


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_a_damaged_cache_file_is_made_again(damage: str, words: Any, tmp_path: Path) -> None:
    first = run(ROWS, CLASSIFY, words, tmp_path)
    (file,) = (tmp_path / "tokens").iterdir()
    whole = file.read_bytes()
    bad = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "flipped": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        "text": b"not a safetensors file",
    }
    file.write_bytes(bad[damage])
    words.calls = 0
    again = run(ROWS, CLASSIFY, words, tmp_path)
    assert words.calls > 0
    assert again[0] == first[0]
    words.calls = 0
    assert run(ROWS, CLASSIFY, words, tmp_path)[0] == first[0]
    assert words.calls == 0
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_an_unwritable_cache_is_a_readable_error(words: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a file where a folder should be")
    with pytest.raises(HarnessError, match="cannot be written"):
        run(ROWS, CLASSIFY, words, tmp_path)


def test_completion_follows_the_prompt_and_ends_with_eos(letters: Any, tmp_path: Path) -> None:
    rows = Rows(["ab", "abcdefghij"], None, ["xy", "uvw"], cue="#")
    ids, found = run(rows, COMPLETE, letters, tmp_path)
    end = letters.eos_token_id
    assert [letters.decode([token for token in example if token != end]) for example in ids] == [
        "ab#xy",
        "abcdefg#uvw",  # the prompt is cut to 12 tokens in all, its cue is not
    ]
    assert [example[-1] for example in ids] == [end, end]
    assert found["completion_starts"].tolist() == [3, 8]
    assert (found["truncated"], found["too_long"]) == (1, 0)


def test_bos_comes_first_where_the_tokenizer_adds_one(letters_with_bos: Any, tmp_path: Path) -> None:
    ids, found = run(Rows(["abcdefghijkl"], None, ["xy"]), COMPLETE, letters_with_bos, tmp_path)
    assert ids[0][0] == letters_with_bos.bos_token_id
    assert ids[0].count(letters_with_bos.bos_token_id) == 1
    assert len(ids[0]) == 12
    assert found["completion_starts"].tolist() == [9]


def test_a_completion_that_does_not_fit_is_dropped_and_counted(letters: Any, tmp_path: Path) -> None:
    rows = Rows(["ab", "ab", "ab"], None, ["x" * 10, "x" * 11, "x"])
    ids, found = run(rows, COMPLETE, letters, tmp_path)
    assert list(map(len, ids)) == [12, 4]
    assert found["too_long"] == 1
    with pytest.raises(HarnessError, match="the shortest needs 13"):
        run(rows.take([1]), COMPLETE, letters, tmp_path)


def test_a_tokenizer_without_eos_cannot_do_causal_lm(words: Any, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no end-of-sequence token"):
        run(Rows(["w1"], None, ["w2"]), COMPLETE, words, tmp_path)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(HarnessError, match="no fast version"):
        tokenizer_fingerprint(object())


def test_tensors_are_small_and_typed(words: Any, tmp_path: Path) -> None:
    _, found = run(ROWS, CLASSIFY, words, tmp_path)
    assert found["input_ids"].dtype == torch.int32
    assert found["offsets"].dtype == torch.int64
