"""Any override, valid or not: a checked cell that survives being written down, or one paragraph and no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, open_dict

from src.config.cells import Cell, check_cells
from src.config.compose import CONF, NAME, VERSION_BASE
from src.config.grid import Grid
from src.config.messages import exit_code, paragraph
from src.config.schema import register
from src.experiment.resolve import resolve_cells
from src.records.decode import decode
from src.reporting.sections.reproduce import hydra_value, overrides
from src.spec import RunSpec, Settings, run_id, run_spec_from_dict, to_dict
from tests.config.drawn import JOBS, JUNK, KEYS, override
from tests.experiment.workplace import build

FEW, MANY = 60, 10_000


@dataclass(frozen=True)
class Door:
    """The command line's own way from overrides to checked cells, for a tiny model."""

    root: Path
    cache: Path
    fixed: list[str]
    compose: Callable[[list[str]], DictConfig]
    grid: Grid

    def checked(self, job: list[str]) -> tuple[RunSpec, Settings]:
        ((spec, found),) = check_cells([Cell("", self.grid.cell([*self.fixed, *job]))])
        resolve_cells([spec], self.cache)
        return spec, found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    root = tmp_path_factory.mktemp("fuzz")
    place = build(root)
    fixed = [f"model.path={place.model}", f"output_dir={root / 'outputs'}", f"cache_dir={place.cache}"]
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()

        def compose(job: list[str]) -> DictConfig:
            config = loader.load_configuration(NAME, job, RunMode.RUN)
            with open_dict(config):
                del config["hydra"]
            return config

        yield Door(root, place.cache, fixed, compose, Grid(compose, loader.list_groups("")))


def check(door: Door, job: list[str]) -> bool:
    """Whether a job is a valid cell; in any case nothing else than a cell or a paragraph comes of it."""
    try:
        spec, found = door.checked(job)
    except Exception as error:
        text = paragraph(error)
        assert exit_code(error) in (1, 2), text
        assert "This is not expected" not in text, text
        # One paragraph, which may end in a list.
        assert "\n\n" not in text.strip() and 10 < len(text) < 2500
        assert not (door.root / "outputs").exists()
        return False
    survives(spec, found)
    return True


def survives(spec: RunSpec, found: Settings) -> None:
    """Exact, through JSON and back, as records, checkpoints and W&B keep it."""
    written = json.loads(json.dumps(to_dict(spec), allow_nan=False))
    again = run_spec_from_dict(written)
    assert again == spec == decode(RunSpec, written)
    assert run_id(again) == run_id(spec)
    assert len(run_id(spec).encode()) <= 200 and "/" not in run_id(spec)
    assert json.loads(json.dumps(to_dict(found), allow_nan=False))["study"] == found.study


def composed_again(door: Door, spec: RunSpec) -> RunSpec:
    """The spec of the command that a report gives for a run."""
    config = door.compose([*door.fixed[1:], *overrides([spec])])
    ((again, _),) = check_cells([Cell("", config)])
    return again


@settings(max_examples=FEW, suppress_health_check=list(HealthCheck))
@given(job=JOBS)
def test_any_overrides_are_a_cell_or_a_paragraph(door: Door, job: list[str]) -> None:
    check(door, job)


@pytest.mark.slow
@settings(max_examples=MANY, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(job=JOBS)
def test_ten_thousand_overrides_are_a_cell_or_a_paragraph(door: Door, job: list[str]) -> None:
    event("valid" if check(door, job) else "refused")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *zip(("lora.rank", "task.path", "lora.ranks", "pack") * 10, JUNK[::3], strict=False),
        ("task.label", "???"),
        ("slurm.setup", "${seed}"),
        ("model.projections", '{q: "0"}'),
    ],
)
def test_some_junk_in_some_keys(door: Door, key: str, value: str) -> None:
    check(door, [f"{key}={value}"])


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_kind_of_junk_in_every_key(door: Door, key: str) -> None:
    for value in JUNK:
        for text in (value, hydra_value(value)):
            check(door, [f"{key}={text}"])


def test_the_command_of_a_report_gives_the_same_run(door: Door) -> None:
    found = []

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(job=st.lists(override().filter(lambda text: "=" in text and text.split("=")[0] in KEYS), max_size=3))
    def run(job: list[str]) -> None:
        try:
            spec, _ = door.checked(job)
        except Exception:
            return
        assert run_id(composed_again(door, spec)) == run_id(spec)
        found.append(spec)

    run()
    assert len(found) >= 3
