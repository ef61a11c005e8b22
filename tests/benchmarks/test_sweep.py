"""The peers do the same as this harness, and what is not the same is found before a speed is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from src.benchmarks.peers.job import PeerResult, read_job, read_results, write_job, write_results
from src.benchmarks.peers.loop import PeftLoop
from src.benchmarks.peers.settings import Setting, settings_of
from src.benchmarks.peers.trainer_cell import train
from src.benchmarks.request import Request
from src.benchmarks.same_results import LEAST_STEPS, agree_first, agree_last
from src.benchmarks.sweep import prepare
from src.benchmarks.sweep_cells import specs_of
from src.benchmarks.sweep_rows import STUDY, Sweep, of_record
from src.errors import ConfigError, HarnessError
from src.experiment.resources import Resources
from src.experiment.study import run_study
from src.records import StudyPaths
from src.spec import MethodSpec
from tests.benchmarks.sweeps import STEPS, make_request

FLOAT32 = Setting("float32", "sdpa", keep_memory=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def request_(folder: Path) -> Request:
    return make_request(folder)


@pytest.fixture(scope="module")
def resources(request_: Request) -> Resources:
    return Resources("cpu", Path(request_.settings.cache_dir))


@pytest.fixture(scope="module")
def sweep(request_: Request, resources: Resources, folder: Path) -> Sweep:
    return prepare(request_, resources, folder)


def test_the_peers_are_given_the_same_cells_in_the_order_of_a_multirun(sweep: Sweep) -> None:
    assert [(peer.rank, len(peer.modules)) for peer in sweep.job.cells] == [(1, 4), (1, 2), (3, 4), (3, 2)]
    assert [peer.name for peer in sweep.job.cells] == [cell.run_id for cell in sweep.cells]
    assert sweep.job.steps == STEPS
    assert read_job(sweep.job_file) == sweep.job


def test_learning_rates_are_an_axis_where_they_are_given(folder: Path) -> None:
    specs = specs_of(make_request(folder, ranks=(2,), lr=(1e-3, 2e-3)))
    assert [(spec.lora.targets, spec.optim.lr) for spec in specs] == [
        ("qv", 1e-3), ("qv", 2e-3), ("o", 1e-3), ("o", 2e-3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"method": MethodSpec("bitfit")},
        {"lora": {"dora": True}},
        {"trainer": {"accumulation": 2}},
        {"trainer": {"patience": 1}},
        {"task": {"kind": "regression"}},
    ],
)
def test_what_the_peers_cannot_do_is_refused(request_: Request, change: dict[str, Any]) -> None:
    values = {
        name: dataclasses.replace(getattr(request_.spec, name), **value) if isinstance(value, dict) else value
        for name, value in change.items()
    }
    with pytest.raises(ConfigError):
        specs_of(dataclasses.replace(request_, spec=dataclasses.replace(request_.spec, **values)))


def test_letters_that_share_a_weight_are_refused(tmp_path: Path) -> None:
    request = make_request(tmp_path, model_type="gpt2")
    with pytest.raises(ConfigError, match="weights of their own"):
        prepare(request, Resources("cpu", Path(request.settings.cache_dir)), tmp_path)


def test_first_losses_agree_and_a_difference_is_found(sweep: Sweep, resources: Resources) -> None:
    assert "all 4 cells" in agree_first(sweep.cells, sweep.job, sweep.data, resources)
    other = [dataclasses.replace(cell, alpha=4 * cell.alpha) for cell in sweep.job.cells]
    job = dataclasses.replace(sweep.job, cells=tuple(other))
    with pytest.raises(HarnessError, match="differ from peft's"):
        agree_first(sweep.cells, job, sweep.data, resources)


# The Trainer's default asks for pinned memory also where there is no GPU.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")
def test_all_rows_do_the_same_work(sweep: Sweep, folder: Path) -> None:
    settings = dataclasses.replace(sweep.request.settings, output_dir=str(sweep.output), study=STUDY)
    run_study([cell.spec for cell in sweep.cells], settings)
    ours = [of_record(cell, "float32", StudyPaths.of(sweep.output, STUDY)) for cell in sweep.cells]
    loop = PeftLoop(sweep.job, FLOAT32)
    peft = [loop.run(cell) for cell in sweep.job.cells]
    trainer = [train(sweep.job, index, str(folder / f"trainer-{index}")) for index in range(len(sweep.cells))]
    results = {"ours": [ours], "peft": [peft], "trainer": [trainer]}
    assert len(agree_last(results, len(sweep.data.test), sweep.job)) == 2
    assert ours[0].tokens == int(sweep.data.train.lengths.sum())


def test_a_cell_leaves_the_base_as_it_was(sweep: Sweep) -> None:
    loop = PeftLoop(sweep.job, FLOAT32)
    before = {name: value.clone() for name, value in loop.base.state_dict().items()}
    first = loop.run(sweep.job.cells[0])
    assert {name for name, _ in loop.base.named_parameters()} == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in loop.base.state_dict().items())
    again = loop.run(sweep.job.cells[0])
    assert dataclasses.replace(again, train_s=0.0) == dataclasses.replace(first, train_s=0.0)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_setting_in_half_precision_trains_in_full(sweep: Sweep, autocast: bool) -> None:
    loop = PeftLoop(sweep.job, Setting("bfloat16", "eager", autocast=autocast, keep_memory=False))
    cell = sweep.job.cells[-1]
    with loop.adapted(cell) as (_, adapted):
        losses = loop.losses(adapted, cell.lr, STEPS)
        assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
        assert {p.dtype for p in adapted.parameters() if not p.requires_grad} >= {torch.bfloat16}
    with PeftLoop(sweep.job, FLOAT32).adapted(cell) as (_, adapted):
        assert losses == pytest.approx(PeftLoop(sweep.job, FLOAT32).losses(adapted, cell.lr, STEPS), abs=0.05)


def test_every_setting_is_tried_once() -> None:
    assert len({setting.text for setting in settings_of(["float32", "bfloat16"])}) == 6
    assert not any("bfloat16" in setting.text for setting in settings_of(["float32"]))


RESULT = PeerResult("a", validation=0.8, test=0.8, tokens=90, adapter=5, head=3, train_s=1.0)


def compare(sweep: Sweep, *, steps: int = LEAST_STEPS, max_steps: int | None = None, **change: Any) -> list[str]:
    """Two rounds of two rows, of which one result is other than the rest."""
    job = dataclasses.replace(sweep.job, steps=steps, trainer={**sweep.job.trainer, "max_steps": max_steps})
    other = dataclasses.replace(RESULT, **change)
    return agree_last({"ours": [[RESULT], [RESULT]], "peft": [[RESULT], [other]]}, 1000, job)


@pytest.mark.parametrize("change", [{"tokens": 89}, {"adapter": 6}, {"head": 4}])
def test_other_work_is_found(sweep: Sweep, change: dict[str, int]) -> None:
    with pytest.raises(HarnessError, match="Nothing is said of speed"):
        compare(sweep, **change)


def test_a_part_of_an_epoch_may_have_a_few_tokens_more(sweep: Sweep) -> None:
    assert "about" in compare(sweep, max_steps=3, tokens=89)[0]
    with pytest.raises(HarnessError, match="tokens"):
        compare(sweep, max_steps=3, tokens=60)


def test_scores_out_of_the_band_are_found_once_they_mean_something(sweep: Sweep) -> None:
    with pytest.raises(HarnessError, match="mean test accuracies"):
        compare(sweep, test=0.7)
    assert "not compared" in compare(sweep, steps=LEAST_STEPS - 1, test=0.7)[-1]
    assert "within" in compare(sweep, test=0.78)[-1]


def test_results_and_jobs_come_back_from_their_files(tmp_path: Path, sweep: Sweep) -> None:
    write_results([RESULT], tmp_path / "result.json", step_s=0.1)
    assert read_results(tmp_path / "result.json") == [RESULT]
    write_job(sweep.job, tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == sweep.job
