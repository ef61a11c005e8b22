"""Every file under conf/ and sweeps/ composes to valid specs, and every key is explained where it stands."""

from __future__ import annotations

import dataclasses
import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from src.comparison.method import FULL, HEAD, adapts, method_of
from src.config import to_settings, to_spec
from src.config.compose import CONF, compose_config
from src.config.schema import GROUPS, Config, SlurmConfig, TrackingConfig
from src.spec import RunSpec, TaskSpec, run_id

SWEEPS = CONF.parent / "sweeps"
# Target sets or methods x ranks x learning rates x seeds, and the baselines, which have neither rank nor learning rate.
NUM_CELLS = {
    "grid": 8,
    "which_matrices": 7 * 3 * 3 + 3,
    "what_rank": 3 * 5 * 3 * 3 + 3,
    "rank_curve": 10 * 3 + 1,
    "subspace": 2 * 3 * 2,
    "amplification": 2 * 3 * 3,
    "small_data": 3 * (2 * 3 * 3 + 3),
    "methods": (5 + 6) * 7 * 3 + 3,
    "intrinsic_dimension": (5 + 5 + 1) * 5 * 3 + 3,
}
RATES = {"methods": 7, "intrinsic_dimension": 5}
OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.parent.name != "sweep")
FILES = sorted(path for folder in (CONF, SWEEPS) for path in folder.rglob("*.yaml") if path.parent != CONF / "sweep")
# A key with a value of its own; the text after ` #` explains it, or a comment line above.
KEY = re.compile(r"\s*(?P<key>[\w.]+):\s*(?P<value>[^#\s].*?)?(?P<comment>\s#\s.*)?$")


def explained(path: Path) -> dict[str, bool]:
    """Keys of a YAML file that have a value, and whether a comment explains each."""
    found: dict[str, bool] = {}
    above = ""
    for line in path.read_text().splitlines():
        match = KEY.match(line)
        if match and match["value"] and not line.lstrip().startswith("#"):
            found[match["key"]] = bool(match["comment"]) or above.lstrip().startswith("#")
        above = line
    return found


@cache
def cells(name: str) -> list[RunSpec]:
    """What a sweep file expands to, by Hydra's own grammar."""
    params = OmegaConf.load(SWEEPS / f"{name}.yaml").hydra.sweeper.params
    overrides = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
    values = {override.get_key_element(): values_of(override) for override in overrides}
    seeds = values.pop("seed", [0])  # merging takes a while, and a seed is only a number
    axes = [[part(name, key, value) for value in own] for key, own in values.items()]
    base = compose_config([f"+sweep={name}"])
    specs = [to_spec(OmegaConf.merge(base, *cell)) for cell in itertools.product(*axes)]
    return [dataclasses.replace(spec, seed=int(seed)) for spec in specs for seed in seeds]


def values_of(override: Override) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def part(name: str, key: str, value: Any) -> Any:
    """What one value of an axis changes: an option of a group, several keys of it, or one key."""
    if key in GROUPS and isinstance(value, str):
        return OmegaConf.masked_copy(compose_config([f"+sweep={name}", f"{key}={value}"]), [key])
    return OmegaConf.create({key: value}) if key in GROUPS else OmegaConf.from_dotlist([f"{key}={value}"])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_to_a_valid_spec(option: str) -> None:
    config = compose_config([option, *(["task.path=mine.csv"] if option == "task=own" else [])])
    assert to_spec(config).task.path
    assert to_settings(config).study


def test_there_is_what_the_readme_names() -> None:
    names = {"model=minilm", "model=smollm2", "model=roberta_base", "model=gpt2", "model=gpt2_medium"}
    names |= {"task=r52", "task=r8", "task=newsgroups20", "task=pydoc", "task=sst2", "task=e2e_nlg"}
    assert names | {"tracking=none", "tracking=wandb"} <= set(OPTIONS)


@pytest.mark.parametrize(("name", "number"), NUM_CELLS.items())
def test_every_sweep_expands_to_different_valid_cells(name: str, number: int) -> None:
    assert len({run_id(spec) for spec in cells(name)}) == number


def test_every_sweep_is_covered_and_starts_with_its_command() -> None:
    assert {path.stem for path in SWEEPS.glob("*.yaml")} == set(NUM_CELLS)
    for path in SWEEPS.glob("*.yaml"):
        header = [line for line in path.read_text().splitlines() if line.startswith("#")]
        assert header[0] == "# @package _global_"
        assert any(f"python -m src.train -m +sweep={path.stem}" in line for line in header)


def test_which_matrices_gives_every_target_set_the_same_budget() -> None:
    specs = cells("which_matrices")
    adapted = [spec for spec in specs if spec.lora.targets != "none"]
    assert {(spec.lora.rank, spec.lora.budget) for spec in adapted} == {(None, 73728)}
    assert len({spec.lora.targets for spec in adapted}) == 7


def test_grid_is_the_main_command() -> None:
    assert {(spec.lora.rank, spec.lora.targets) for spec in cells("grid")} == set(
        itertools.product([1, 4, 8, 64], ["qv", "qkvo"])
    )


@pytest.mark.parametrize("name", sorted(set(NUM_CELLS) - {"grid"}))
def test_named_studies_have_learning_rates_and_seeds_in_pairs(name: str) -> None:
    """For each configuration the same learning rates, for each of these the same seeds; the head has its own rate."""
    tried: dict[str, set[tuple[float, int]]] = {}
    for spec in cells(name):
        if adapts(spec):
            alike = dataclasses.replace(spec, seed=0, optim=dataclasses.replace(spec.optim, lr=1.0))
            tried.setdefault(run_id(alike), set()).add((spec.optim.lr, spec.seed))
    pairs = set.union(*tried.values())
    assert all(own == pairs for own in tried.values())
    assert len({lr for lr, _ in pairs}) == RATES.get(name, 3)
    assert len({spec.optim.head_lr for spec in cells(name)}) == 1


def test_methods_have_one_budget_and_intrinsic_dimension_has_a_rank_curve_beside_it() -> None:
    methods = {method_of(spec): spec for spec in cells("methods")}
    assert len(methods) == 12
    unsized = {FULL, HEAD, "BitFit"}
    assert {spec.lora.budget for name, spec in methods.items() if name not in unsized} == {73728}
    curves = [(spec.method.size, spec.lora.rank) for spec in cells("intrinsic_dimension")]
    assert {size for size, _ in curves} == {None, 64, 256, 1024, 4096, 16384}
    assert {rank for _, rank in curves} == {None, 1, 2, 4, 8, 64}


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_key_has_a_comment(path: Path) -> None:
    found = explained(path)
    assert found
    axes = (
        {"lora.rank", "lora.targets", "lora.budget", "optim.lr"} if path.parent.name in ("sweep", "sweeps") else set()
    )
    assert [key for key, commented in found.items() if not commented and key not in axes] == []


@pytest.mark.parametrize("group", [*GROUPS, "tracking", "slurm"])
def test_every_key_of_the_schema_is_explained_in_conf(group: str) -> None:
    twin = {**GROUPS, "tracking": TrackingConfig, "slurm": SlurmConfig}[group]
    commented = {key for path in (CONF / group).glob("*.yaml") for key, good in explained(path).items() if good}
    # A task file holds the keys that matter to its task; the others are explained in the docstring.
    docstring = (TaskSpec.__doc__ or "").partition("Attributes:")[2] if group == "task" else ""
    assert [f.name for f in dataclasses.fields(twin) if f.name not in commented and f.name not in docstring] == []


def test_every_top_level_key_is_explained_in_conf() -> None:
    groups = {*GROUPS, "tracking", "halving", "slurm"}
    commented = {key for key, good in explained(CONF / "config.yaml").items() if good}
    assert {f.name for f in dataclasses.fields(Config)} - groups <= commented


def test_uncommented_keys_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# about a\na: 1\nb: 2 # about b\nc: 3\nd:\n  e: '#'\n")
    assert explained(path) == {"a": True, "b": True, "c": False, "e": False}
