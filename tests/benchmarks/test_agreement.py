"""Nothing is timed before the sides agree, and they do: with real peers, in every kind of task."""

from __future__ import annotations

import pytest
import torch

from src.bench import STEP_ROWS
from src.benchmarks.agreement import check_equal, check_loss, copy_factors, draw_b
from src.benchmarks.peer_adapters import check_comparable, loralib_side, peft_side
from src.benchmarks.step import check
from src.benchmarks.step_rows import ROWS, Rows
from src.errors import ConfigError, HarnessError
from tests.benchmarks.places import tiny_bench


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", "classification"), ("roberta", "regression"), ("llama", "classification"), ("llama", "causal_lm")],
)
def test_all_sides_compute_the_same(model_type: str, kind: str) -> None:
    bench = tiny_bench(model_type, kind, lanes=3, targets="qvo", dropout=0.2)
    found = check(bench, (1, 3))
    assert [sentence.split(" in float64")[0] for sentence in found] == [
        "ours and peft",
        "ours and loralib",
        "ours and peft, DoRA",
        "ours at B = 0 and the frozen model",
        "ours at B = 0 and the frozen, transformers' own",
        "texts padded and end to end",
        "texts padded and end to end",
        "one lane alone and with 2 others",
    ]


def test_every_piece_of_work_runs_and_trains() -> None:
    bench = tiny_bench(dtype=torch.float32)
    rows = Rows(bench, (1, 2))
    work = rows.make(tuple(ROWS))
    for piece in work:
        piece.run()
    assert [piece.parts for piece in work if "lanes" in piece.name] == [2]
    assert len(rows.products) > 20
    assert tuple(ROWS) == STEP_ROWS
    assert [piece.name for piece in rows.make(("peft", "ours"))] == ["ours", "peft"]


def test_peers_share_the_base_s_weights_and_leave_it_alone() -> None:
    bench = tiny_bench(dtype=torch.float32)
    before = {name: value.clone() for name, value in bench.base.model.state_dict().items()}
    modules = [type(module) for module in bench.base.model.modules()]
    peer = peft_side(bench.base, bench.setup, bench.batches[0], bench.num_labels)
    held = {p.untyped_storage().data_ptr() for p in bench.base.model.parameters()}
    assert {p.untyped_storage().data_ptr() for p in peer.base.model.parameters() if not p.requires_grad} <= held
    for _ in range(3):
        peer.step()
    assert [type(module) for module in bench.base.model.modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in bench.base.model.state_dict().items())
    assert all(factors["B"].abs().max() > 0 for factors in peer.factors.values())


@pytest.mark.parametrize("side", [peft_side, loralib_side])
def test_an_altered_weight_is_noticed(side) -> None:
    bench = tiny_bench(dtype=torch.float32)
    ours, peer = bench.ours(), side(bench.base, bench.setup, bench.batches[0], bench.num_labels)
    draw_b(ours)
    copy_factors(ours, peer)
    with torch.no_grad():
        next(iter(peer.factors.values()))["B"].add_(0.01)
    with pytest.raises(HarnessError, match=r"Not measured, because what should be equal is not: the \w+ of ours and"):
        check_equal("the peer", ours, peer, bench.dtype)


def test_losses_that_differ_are_noticed() -> None:
    one = torch.tensor(1.0)
    assert check_loss("a and b", one, one + 1e-7, torch.float32).startswith("a and b in float32: loss 1.2e-07 apart")
    with pytest.raises(HarnessError, match=r"the losses of a and b in float32 are 1\.0e-03 apart"):
        check_loss("a and b", one + 1e-3, one, torch.float32)


def test_training_keeps_ours_and_peft_together() -> None:
    """The same loss, clip, rates and optimiser: after some steps both have the same adapters."""
    bench = tiny_bench(schedule="constant", warmup=0.0, weight_decay=0.01)
    ours, peer = bench.ours(), peft_side(bench.base, bench.setup, bench.batches[0], bench.num_labels)
    with torch.no_grad():
        for own in peer.factors.values():
            for name in own:
                own[name].data = own[name].data.double()
    copy_factors(ours, peer)
    for _ in range(5):
        ours.step()
        peer.step()
    for key, own in ours.factors().items():
        torch.testing.assert_close(own["B"], peer.factors[key]["B"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("model_type", "changes", "said"),
    [
        ("gpt2", {}, "model.path is 'tiny'; allowed: models whose q, k and v have weights of their own."),
        ("bert", {"dora": True}, "method is 'lora'; allowed: plain LoRA here; DoRA has rows of its own."),
        ("bert", {"targets": "none", "rank": None}, "lora.targets is 'none'; allowed: sets that adapt something"),
        ("bert", {"ranks": {"q": 1}}, "lora.ranks is"),
    ],
)
def test_what_cannot_be_compared_is_said(model_type: str, changes: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_comparable(tiny_bench(model_type, **changes).setup)
    assert str(caught.value).startswith(said)
