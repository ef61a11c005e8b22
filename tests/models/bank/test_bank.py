"""A bank's answers against the plain model with each adapter folded into its weights by hand, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModel, GPTNeoXConfig

from src.adapters.lowrank import LowRank
from src.errors import HarnessError
from src.models.bank import AdapterBank, TaskHead
from src.models.heads import pool
from src.models.loading import freeze
from tests.models.bank.dense import LENGTHS, batch, by_hand, close, random_adapters, random_head
from tests.tiny import tiny_base, token_ids
from tests.tiny_architectures import CASES

ALL = {"bert": "qkvoud", "gpt2": "qkvoud", "qwen3": "qkvougd"}
# Adapters of this size amplify rounding.
PRECISIONS = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.mark.parametrize("model_type", ALL)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_each_row_of_a_mixed_batch_is_answered_as_if_alone(model_type: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(list(PRECISIONS)))
    causal = model_type != "bert" and data.draw(st.booleans())
    base = tiny_base(model_type, "causal_lm" if causal else "classification", dtype)
    bank, adapters, heads = AdapterBank(base), {}, {}
    for seed in range(data.draw(st.integers(1, 4))):
        letters = "".join(data.draw(st.sets(st.sampled_from(ALL[model_type]), min_size=1)))
        kind = {"dora": data.draw(st.booleans()), "origin": data.draw(st.booleans())}
        name, rank = f"a{seed}", data.draw(st.integers(1, 9))
        adapters[name] = random_adapters(
            base, letters, rank, seed, scale=data.draw(st.sampled_from([0.1, 1.0])), **kind
        )
        heads[name] = None if causal or data.draw(st.booleans()) else random_head(base, 2 + seed, seed)
    expected = {None: by_hand(base, {}, batch(8)), **{n: by_hand(base, a, batch(8)) for n, a in adapters.items()}}
    for name, own in adapters.items():
        bank.add(name, own, heads[name])
    names = data.draw(st.lists(st.sampled_from([None, *adapters]), min_size=1, max_size=8))
    answers = bank.forward(batch(len(names)), names)
    for row, (name, answer) in enumerate(zip(names, answers, strict=True)):
        wanted = size = expected[name][row]
        if name is not None and heads[name] is not None:
            mask = batch(8)["attention_mask"][row : row + 1]
            pooled, head = pool(wanted[None], mask, "mean")[0], heads[name]
            wanted, size = pooled @ head.weight.T + head.bias, pooled.abs() @ head.weight.abs().T
        # Padding positions attend to whatever is there; only real tokens have a meaning.
        real = slice(None) if wanted.dim() == 1 else slice(int(LENGTHS[row]))
        # Rounding is of the size of what a head adds up, which may cancel.
        close = PRECISIONS[dtype] * max(1.0, float(size[real].abs().max()))
        torch.testing.assert_close(answer[real], wanted[real], rtol=PRECISIONS[dtype], atol=close)


def test_a_weight_interleaved_by_head(tmp_path: Path) -> None:
    config = GPTNeoXConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=66,
    )  # fmt: skip
    torch.manual_seed(0)
    base = freeze(AutoModel.from_config(config).double().eval(), "classification", "tiny")
    bank = AdapterBank(base)
    own = {"q": random_adapters(base, "q", 3, 0), "kv": random_adapters(base, "kv", 2, 1, dora=True)}
    expected = {None: by_hand(base, {}, batch(4)), **{n: by_hand(base, a, batch(4)) for n, a in own.items()}}
    for name, adapters in own.items():
        bank.add(name, adapters)
    names = ["kv", None, "q", "kv"]
    for row, (name, answer) in enumerate(zip(names, bank.forward(batch(4), names), strict=True)):
        torch.testing.assert_close(answer, expected[name][row], rtol=1e-10, atol=1e-10)
    bank.merge("kv")
    torch.testing.assert_close(torch.stack(bank.forward(batch(4))), expected["kv"], rtol=1e-10, atol=1e-10)


def test_rows_that_belong_to_the_whole_batch_allow_one_adapter_at_a_time() -> None:
    """DeBERTa's relative positions go through W_q and W_k once for all rows, so these cannot be anybody's own."""
    base = freeze(CASES["deberta-v2"].build(), "classification", "tiny")
    own = {"q": random_adapters(base, "qo", 2, 0), "v": random_adapters(base, "v", 3, 1)}
    own["o"] = random_adapters(base, "o", 1, 2)
    expected = {None: by_hand(base, {}, batch(4)), **{n: by_hand(base, a, batch(4)) for n, a in own.items()}}
    bank = AdapterBank(base)
    for name, adapters in own.items():
        bank.add(name, adapters)
    for names in (["q"] * 4, ["v", "o", None, "v"]):
        for row, (name, answer) in enumerate(zip(names, bank.forward(batch(4), names), strict=True)):
            real = slice(int(LENGTHS[row]))
            torch.testing.assert_close(answer[real], expected[name][row][real], rtol=1e-10, atol=1e-10)
    for names in (["q", "v", "q", "v"], ["q", None, "q", "q"]):
        with pytest.raises(HarnessError, match=r"cannot mix 'q' with others: .* Give all rows .* the same name"):
            bank.forward(batch(4), names)
    with pytest.raises(HarnessError, match="cannot mix 'q'"), bank.rows([None, "q"]):
        pass
    bank.use("v")
    torch.testing.assert_close(bank.forward(batch(4))[0], expected["v"][0], rtol=1e-10, atol=1e-10)


@pytest.fixture
def filled() -> tuple[AdapterBank, dict[str, Tensor]]:
    """A bank of three adapters and what they answer one by one."""
    base = tiny_base("gpt2", "causal_lm")
    kinds: dict[str, dict[str, Any]] = {"plain": {}, "dora": {"dora": True}, "pissa": {"origin": True}}
    own = {name: random_adapters(base, "qvo", 1 + i, i, **kind) for i, (name, kind) in enumerate(kinds.items())}
    expected = {name: by_hand(base, adapters, batch(8)) for name, adapters in own.items()}
    expected["base"] = by_hand(base, {}, batch(8))
    bank = AdapterBank(base)
    for name, adapters in own.items():
        bank.add(name, adapters)
    return bank, expected


def test_switching_and_merging_in_any_order(filled: tuple[AdapterBank, dict[str, Tensor]]) -> None:
    bank, expected = filled
    plain = {name: tensor.clone() for name, tensor in tiny_base("gpt2", "causal_lm").model.state_dict().items()}
    close(bank.forward(batch(8)), expected["base"])
    for name in ("dora", "plain", "pissa", "dora"):
        bank.use(name)
        close(bank.forward(batch(8)), expected[name])
        bank.merge(name)
        close(bank.forward(batch(8)), expected[name])
        close(bank.forward(batch(8), [name] * 8), expected[name])
        assert set(bank.base.model.state_dict()) == set(plain)
        bank.unmerge()
        assert bank.active == name
    bank.use(None)
    close(bank.forward(batch(8)), expected["base"])
    bank.close()
    assert bank.names == ()
    restored = bank.base.model.state_dict()
    assert all(torch.equal(restored[name], tensor) for name, tensor in plain.items()) and len(restored) == len(plain)


def test_switching_copies_no_weights(filled: tuple[AdapterBank, dict[str, Tensor]]) -> None:
    bank, _ = filled
    before = [(p.data_ptr(), p._version) for p in bank.base.model.parameters()]
    for name in (*bank.names, None):
        bank.use(name)
        bank.forward(batch(2))
    bank.forward(batch(3), ["dora", None, "plain"])
    assert [(p.data_ptr(), p._version) for p in bank.base.model.parameters()] == before


def test_what_is_removed_is_gone_and_the_rest_stays(filled: tuple[AdapterBank, dict[str, Tensor]]) -> None:
    bank, expected = filled
    size = bank.num_bytes()
    bank.use("plain")
    bank.forward(batch(3), ["pissa", "plain", None])
    bank.remove("plain")
    assert bank.names == ("dora", "pissa") and bank.active is None and bank.num_bytes() < size
    answers = bank.forward(batch(3), ["pissa", "dora", None])
    for row, name in enumerate(("pissa", "dora", "base")):
        torch.testing.assert_close(answers[row], expected[name][row], rtol=1e-10, atol=1e-10)
    bank.add("plain", random_adapters(bank.base, "qvo", 1, 0))
    close(bank.forward(batch(8), ["plain"] * 8), expected["plain"])


def test_bytes_are_those_of_the_factors() -> None:
    base = tiny_base("bert", dtype=torch.float32)
    bank, sizes = AdapterBank(base), []
    for name, rank in (("a", 2), ("b", 5)):
        bank.add(name, random_adapters(base, "qv", rank, rank, dora=rank == 5))
        sizes.append(bank.num_bytes())
    matrices, padding = 4, 4 * (16 + 16) * 4
    assert sizes == [padding + matrices * 2 * 32 * 4, padding + matrices * (7 * 32 + 16) * 4]


def test_generation_row_by_row(filled: tuple[AdapterBank, dict[str, Tensor]]) -> None:
    bank, _ = filled
    prompts, names = token_ids(4, 5), ["dora", None, "pissa", "dora"]
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 1, "num_beams": 2}
    mask = torch.ones_like(prompts)
    with bank.rows(names):
        together = bank.base.model.generate(input_ids=prompts, attention_mask=mask, **options)
    for row, name in enumerate(names):
        bank.use(name)
        alone = bank.base.model.generate(input_ids=prompts[row : row + 1], attention_mask=mask[:1], **options)
        assert alone[0].tolist() == together[row][: len(alone[0])].tolist()


def test_a_magnitude_over_a_weight_of_zero_does_nothing() -> None:
    base = tiny_base("bert")
    bank, own = AdapterBank(base), random_adapters(base, "q", 2, 0, dora=True)
    projection = base.projections[0]
    with torch.no_grad():
        base.backbone.get_submodule(projection.module).weight[3] = 0.0
        own[projection.key].b[3] = 0.0
    bank.add("own", own)
    assert all(answer.isfinite().all() for answer in bank.forward(batch(2), ["own", None]))
    bank.merge("own")
    assert base.backbone.get_submodule(projection.module).weight.isfinite().all()


def test_wrong_uses_say_what_is_right(filled: tuple[AdapterBank, dict[str, Tensor]], tmp_path: Path) -> None:
    bank, expected = filled
    good = random_adapters(bank.base, "q", 2, 0)
    other = random_adapters(tiny_base("bert"), "q", 2, 0)
    key, first = next(iter(good.items()))
    wide = {key: LowRank(nn.Parameter(torch.ones(2, 17)), first.b, 1.0, first.rows, 0.0)}
    with pytest.raises(HarnessError, match="no adapter 'nope'; there are: plain, dora, pissa"):
        bank.use("nope")
    with pytest.raises(HarnessError, match="no adapter 'nope'"):
        bank.forward(batch(2), ["plain", "nope"])
    with pytest.raises(HarnessError, match="2 rows and 3 names"):
        bank.forward(batch(2), ["plain"] * 3)
    with pytest.raises(HarnessError, match="named 'plain' cannot be added; there are: plain"):
        bank.add("plain", good)
    with pytest.raises(HarnessError, match=r"it has no encoder\.layer\.0.*for example, h\.0\.attn\.c_attn\.q"):
        bank.add("new", other)
    with pytest.raises(HarnessError, match=r"are 2 x 17 and 16 x 2, not r x 16 and 16 x r"):
        bank.add("new", good | wide)
    with pytest.raises(HarnessError, match="another width than 16"):
        bank.add("new", good, TaskHead(torch.ones(2, 5), torch.ones(2)))
    with pytest.raises(HarnessError, match="no adapter that can be read"):
        bank.load("new", tmp_path)
    assert bank.names == ("plain", "dora", "pissa")
    bank.merge("plain")
    for wrong in (
        lambda: bank.use("dora"),
        lambda: bank.forward(batch(2), ["plain", "dora"]),
        lambda: bank.forward(batch(2), [None, "plain"]),
        lambda: bank.merge("plain"),
        lambda: bank.add("new", good),
        lambda: bank.remove("dora"),
    ):
        with pytest.raises(RuntimeError, match=r"call unmerge\(\) first"):
            wrong()
    bank.unmerge()
    close(bank.forward(batch(8), ["dora"] * 8), expected["dora"])
