"""A bank's answers against the plain model with each adapter folded into its weights by hand, row by row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, GPTNeoXConfig

from src.adapters.lowrank import LowRank
from src.adapters.projections import is_transposed
from src.errors import HarnessError
from src.models.bank import AdapterBank, TaskHead, read_head, saved_pooling
from src.models.heads import pool
from src.models.loading import Base, freeze
from tests.tiny import tiny, tiny_base, token_ids
from tests.tiny_architectures import CASES

ALL = {"bert": "qkvoud", "gpt2": "qkvoud", "qwen3": "qkvougd"}
PRECISIONS = {torch.float64: 1e-10, torch.float32: 1e-6}
LENGTHS = torch.tensor([7, 4, 7, 1, 6, 2, 5, 3])


def random_adapters(base: Base, letters: str, rank: int, seed: int, **changes: Any) -> dict[str, LowRank]:
    """Adapters that do something; `changes` are scale, dora, or origin (as PiSSA has one)."""
    draw = torch.Generator().manual_seed(seed)
    dtype = next(base.model.parameters()).dtype

    def normal(*shape: int, mean: float = 0.0) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, dtype=dtype).normal_(mean, 0.3, generator=draw), requires_grad=False)

    def low_rank(p: Any, scale: float) -> LowRank:
        return LowRank(normal(rank, p.d_in), normal(p.d_out, rank), scale, p.rows, 0.1)

    scale = changes.get("scale", 0.5)
    return {
        p.key: LowRank(
            **(vars(low_rank(p, scale)) | {
                "magnitude": normal(p.d_out, mean=1.0) if changes.get("dora") else None,
                "origin": low_rank(p, -scale) if changes.get("origin") else None,
            })
        )
        for p in base.projections if p.letter in letters
    }  # fmt: skip


def random_head(base: Base, num_labels: int, seed: int) -> TaskHead:
    draw = torch.Generator().manual_seed(seed)
    dtype = next(base.model.parameters()).dtype
    weight = torch.randn(num_labels, base.hidden_size, generator=draw, dtype=dtype)
    return TaskHead(weight, torch.randn(num_labels, generator=draw, dtype=dtype))


def batch(rows: int) -> dict[str, Tensor]:
    """Rows of different length, padded on the right."""
    lengths = LENGTHS[:rows]
    return {"input_ids": token_ids(rows, 7), "attention_mask": (torch.arange(7) < lengths[:, None]).long()}


@torch.no_grad()
def by_hand(base: Base, adapters: dict[str, LowRank], inputs: dict[str, Tensor]) -> Tensor:
    """What a copy of the model answers whose weights were changed with dense algebra."""
    model, projections = copy.deepcopy(base.model), {p.key: p for p in base.projections}
    for key, adapter in adapters.items():
        module = model.get_submodule(base.prefix + projections[key].module)
        weight = module.weight.T if is_transposed(module) else module.weight
        units = projections[key].rows.index()
        delta = adapter.scale * adapter.b @ adapter.a
        if adapter.origin is not None:
            delta += adapter.origin.scale * adapter.origin.b @ adapter.origin.a
        new = weight[units] + delta
        if adapter.magnitude is not None:
            new *= (adapter.magnitude / new.norm(dim=1))[:, None]
        weight[units] = new
    output = model(**inputs)
    return output.logits if base.output is not None else output.last_hidden_state


@pytest.mark.parametrize("model_type", ALL)
@settings(max_examples=12, deadline=None)
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


def close(answers: Sequence[Tensor], expected: Tensor) -> None:
    torch.testing.assert_close(torch.stack(list(answers)), expected, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize(
    ("model_type", "modules", "options"),
    [
        ("bert", ["query", "value"], {"use_rslora": True}),
        ("bert", "all-linear", {"use_dora": True}),
        ("qwen3", ["q_proj", "up_proj"], {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"up_proj": 3}}),
        ("gpt2", ["c_attn"], {"fan_in_fan_out": True}),
        ("gpt2", ["c_attn", "c_proj"], {"fan_in_fan_out": True, "use_dora": True}),
    ],
)
def test_what_peft_saved_answers_as_in_peft(
    tmp_path: Path, model_type: str, modules: Any, options: dict[str, Any]
) -> None:
    config = peft.LoraConfig(r=3, target_modules=modules, init_lora_weights=False, **options)
    theirs = peft.get_peft_model(tiny(model_type), config)
    for name, parameter in theirs.named_parameters():
        if "magnitude" in name:
            parameter.data += 0.2 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1))
    theirs.eval().save_pretrained(tmp_path)
    bank = AdapterBank(tiny_base(model_type))
    left_out = bank.load("theirs", tmp_path)
    assert all("pooler" in name for name in left_out)
    with torch.no_grad():
        expected = theirs(**batch(8)).last_hidden_state
    close(bank.forward(batch(8), ["theirs"] * 8), expected)
    bank.merge("theirs")
    close(bank.forward(batch(8)), expected)


def test_a_magnitude_out_of_a_fused_weight_counts_also_where_b_is_zero(tmp_path: Path) -> None:
    """Of GPT-2's q, k and v only v's rows of B were trained, but the magnitudes of all three."""
    config = peft.LoraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True)
    theirs = peft.get_peft_model(tiny("gpt2"), config)
    for name, parameter in theirs.named_parameters():
        if "magnitude" in name:
            parameter.data += 0.2 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1))
        elif "lora_B" in name:
            parameter.data[32:] = 0.3
    theirs.eval().save_pretrained(tmp_path)
    bank = AdapterBank(tiny_base("gpt2"))
    bank.load("theirs", tmp_path)
    with torch.no_grad():
        close(bank.forward(batch(8), ["theirs"] * 8), theirs(**batch(8)).last_hidden_state)


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


def test_a_head_is_read_or_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}, tmp_path / "head.safetensors")
    assert read_head(tmp_path / "head.safetensors").weight.shape == (2, 3)
    save_file({"other": torch.ones(2)}, tmp_path / "head.safetensors")
    with pytest.raises(HarnessError, match="no task head that can be read"):
        read_head(tmp_path / "head.safetensors")
    save_file(
        {"head.weight": torch.full((2, 3), torch.nan), "head.bias": torch.zeros(2)}, tmp_path / "head.safetensors"
    )
    with pytest.raises(HarnessError, match="damaged: it holds values that are no finite numbers"):
        read_head(tmp_path / "head.safetensors")


def test_how_a_head_pools_is_read_or_refused(tmp_path: Path) -> None:
    assert saved_pooling(tmp_path) is None
    (tmp_path / "head.json").write_text('{"kind": "classification", "pooling": "first", "labels": null}')
    assert saved_pooling(tmp_path) == "first"
    for text, said in (
        ('{"pooling": "max"}', "pooling 'max'; allowed: mean, first, last"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ):
        (tmp_path / "head.json").write_text(text)
        with pytest.raises(HarnessError, match=said):
            saved_pooling(tmp_path)
