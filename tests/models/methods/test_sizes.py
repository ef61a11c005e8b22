"""Sizes from budgets and counts from sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from src.errors import ConfigError
from src.models.adapted import AdaptedModel
from src.models.loading import Base, freeze
from src.models.methods import allocate_method
from src.models.setup import set_up
from src.spec import SIZED, MethodSpec, RunSpec
from tests.tiny import CONFIGS, tiny_base, tiny_cell, tiny_data

DATA = tiny_data()
BASES = {name: tiny_base(name) for name in ("bert", "gpt2", "llama")}
ALONE = [name for name in SIZED if name != "lora_prefix"]


def spec_of(name: str, base: Base, *, size: int | None = None, budget: int | None = None, said: bool = True) -> RunSpec:
    """Canonical."""
    cell = tiny_cell(DATA, base, targets="none")
    lora = dataclasses.replace(cell.spec.lora, budget=budget)
    return dataclasses.replace(cell.spec, lora=lora, method=MethodSpec(name, size, said))


@given(st.sampled_from(ALONE), st.sampled_from(sorted(BASES)), st.integers(400, 8000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_largest_size_that_fits_is_taken(name: str, model_type: str, budget: int, said: bool) -> None:
    base = BASES[model_type]
    found = allocate_method(spec_of(name, base, budget=budget, said=said), base)
    assert found.rank == 0
    assert found.ranks == ()
    assert found.requested == budget
    assert found.size is not None
    assert found.parameters <= budget
    assert found.residual == budget - found.parameters
    same = allocate_method(spec_of(name, base, size=found.size, said=said), base)
    assert (same.parameters, same.requested) == (found.parameters, None)
    try:
        larger = allocate_method(spec_of(name, base, size=found.size + 1, said=said), base)
    except ConfigError:
        largest = {"prefix": 66 - 32, "random_subspace": base.num_parameters}.get(name, 0)
        assert found.size <= largest, "the model can have no larger one"
    else:
        assert larger.parameters > budget


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
@pytest.mark.parametrize("name", ["full", "bitfit", *ALONE])
def test_an_outline_gives_what_the_model_then_has(model_type: str, name: str) -> None:
    """Counted over the parameters that are trained."""
    base = BASES[model_type]
    spec = spec_of(name, base, size=7 if name in SIZED else None)
    with torch.device("meta"):
        sketch = freeze(AutoModel.from_config(CONFIGS[model_type]), "classification", "tiny")
    planned = set_up(spec, sketch)
    model = AdaptedModel(base, [set_up(spec, base)], num_labels=3, pad_id=1)
    trained = sum(p.numel() for p in model.parameters(0).values()) - sum(p.numel() for p in model.heads[0].values())
    model.detach()
    assert planned.allocation.parameters == trained
    assert planned.allocation == set_up(spec, base).allocation


def test_counts_by_hand() -> None:
    """BERT, two layers of width 16; GPT-2 and Llama for what differs."""
    bert = BASES["bert"]
    assert allocate_method(spec_of("adapter_h", bert, size=3), bert).parameters == 4 * (2 * 16 * 3 + 3 + 16)
    assert allocate_method(spec_of("adapter_l", bert, size=3), bert).parameters == 2 * (2 * 16 * 3 + 3 + 16 + 2 * 16)
    assert allocate_method(spec_of("prefix", bert, size=3), bert).parameters == 3 * 2 * 2 * 16
    llama = BASES["llama"]
    assert allocate_method(spec_of("prefix", llama, size=3), llama).parameters == 3 * 2 * 2 * 8, "two of four heads"
    assert allocate_method(spec_of("random_subspace", bert, size=30), bert).parameters == 30


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "prefix",
            {"size": 35},
            r"method\.size is 35; allowed: 1 to 34, what 32 tokens of text leave of the",
        ),
        ("prefix", {"budget": 63}, r"lora\.budget is 63; allowed: at least 64, a prefix of one token"),
        (
            "adapter_h",
            {"budget": 195},
            r"lora\.budget is 195; allowed: at least 196, adapter_h with a bottleneck of 1",
        ),
        ("random_subspace", {"size": 3}, r"method\.size is 3; allowed: 4 to 6640, of which 3 are the layers' scales"),
        (
            "random_subspace",
            {"budget": 2},
            r"lora\.budget is 2; allowed: at least 4, the smallest d of",
        ),
    ],
)
def test_what_does_not_fit_is_refused(name: str, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        allocate_method(spec_of(name, BASES["bert"], **changes), BASES["bert"])


def test_texts_that_leave_no_room_for_a_prefix() -> None:
    """Texts that are to be written take room as well."""
    base = tiny_base("gpt2", "causal_lm")
    spec = spec_of("prefix", base, size=1)
    long = dataclasses.replace(spec, task=dataclasses.replace(spec.task, max_length=66))
    with pytest.raises(ConfigError, match=r"task\.max_length is 66; allowed: shorter texts"):
        allocate_method(long, base)
    writes = dataclasses.replace(spec.task, kind="causal_lm", generate=True, max_new_tokens=20)
    with pytest.raises(ConfigError, match="allowed: 1 to 14, what 52 tokens"):
        allocate_method(dataclasses.replace(spec, task=writes, method=MethodSpec("prefix", 15)), base)


def test_lora_beside_a_prefix_gets_what_the_prefix_leaves() -> None:
    """q and v of two layers: 128 for each rank; a token of the prefix 64."""
    cell = tiny_cell(DATA, BASES["bert"], targets="qv", rank=None, budget=600, method=MethodSpec("lora_prefix", 3))
    assert cell.allocation.size == 3
    assert cell.allocation.rank == (600 - 3 * 64) // 128
    assert cell.allocation.parameters == 3 * 64 + 3 * 128
    assert cell.allocation.requested == 600
