"""Any subset of letters, in any order, means one thing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import ConfigError
from src.spec import LETTERS, canonical_targets, expand_targets, run_id
from tests.record_factory import make_spec

SUBSETS = st.lists(st.sampled_from(LETTERS), min_size=1, unique=True)
BERT, LLAMA = frozenset("qkvoud"), frozenset("qkvougd")


@given(SUBSETS)
def test_order_does_not_matter_and_no_letter_is_lost(letters: list[str]) -> None:
    canonical = canonical_targets("".join(letters))
    assert canonical == canonical_targets("".join(sorted(letters)))
    assert sorted(canonical) == sorted(letters)
    assert canonical_targets(canonical) == canonical


def test_every_order_of_qvo_is_the_same_run() -> None:
    assert len({run_id(make_spec("".join(order))) for order in itertools.permutations("qvo")}) == 1
    assert run_id(make_spec("qv")) != run_id(make_spec("qvo"))


def test_attn_means_qkvo() -> None:
    assert canonical_targets("attn") == "qkvo"
    assert run_id(make_spec("attn")) == run_id(make_spec("ovkq"))


@pytest.mark.parametrize("text", ["", "x", "qx", "qq", "qvq", "Q", "q,v", "qv ", "None", "ATTN", "nonef"])
def test_what_is_no_set_of_letters_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="letters of qkvougd in any order, each once") as caught:
        canonical_targets(text, "targets")
    assert (caught.value.key, caught.value.value) == ("targets", text)


@pytest.mark.parametrize(
    ("targets", "present", "letters"),
    [
        ("all", BERT, "qkvoud"),
        ("all", LLAMA, "qkvougd"),
        ("mlp", BERT, "ud"),
        ("mlp", LLAMA, "ugd"),
        ("qv", BERT, "qv"),
        ("none", BERT, "none"),
    ],
)
def test_words_become_the_letters_that_there_are(targets: str, present: frozenset[str], letters: str) -> None:
    assert expand_targets(targets, present) == letters


@pytest.mark.parametrize(("targets", "present"), [("g", BERT), ("qg", BERT), ("mlp", frozenset("qkvo")), ("q", set())])
def test_a_letter_that_an_architecture_lacks_is_refused_with_those_it_has(
    targets: str, present: frozenset[str]
) -> None:
    here = "".join(letter for letter in LETTERS if letter in present)
    with pytest.raises(ConfigError, match=f"letters that this architecture has: {here}"):
        expand_targets(targets, present)
