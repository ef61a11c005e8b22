"""Any override, valid or not: a checked cell that survives being written down, or one paragraph and no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

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
from src.config.schema import alternatives, register
from src.experiment.resolve import resolve_cells
from src.records.decode import decode
from src.reporting.sections.reproduce import hydra_value, overrides
from src.spec import FrozenMap, RunSpec, Settings, run_id, run_spec_from_dict, to_dict
from src.spec.hints import hints_of
from tests.experiment.workplace import build

FEW, MANY = 60, 10_000
GROUPS = ("model", "task", "method", "lora", "optim", "trainer", "tracking", "sweep", "hydra/launcher", "hydra/sweeper")
# What people and other programs put where values belong.
JUNK = (
    "",
    " ",
    "null",
    "~",
    "???",
    "true",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1.5",
    "1e5",
    "9" * 30,
    "9" * 5000,
    "0x10",
    "1_000",
    "[]",
    "[1,2]",
    "{}",
    "{a:1}",
    "[[[]]]",
    "{a:{b:[1]}}",
    "'",
    '"',
    "'x",
    "\\",
    "a b",
    "a,b",
    "a=b",
    "a:b",
    "${",
    "${}",
    "${seed}",
    "${lora.rank}",
    "${nowhere}",
    "${oc.env:HOME}",
    "${oc.env:NOWHERE}",
    "${oc.env:HF_TOKEN,x}",
    "${oc.select:seed}",
    "${.rank}",
    "${lora}",
    "${unless_given:1,2}",
    "${unless_given:}",
    "${eval:1}",
    "${a:${b:${c}}}",
    "$",
    "$$",
    "%s",
    "{0}",
    "ä",
    "日本語",
    "\U0001f600",
    "\u202e",
    "\x00",
    "\x1b[31m",
    "\n",
    "\t",
    "a\nb",
    "None",
    "False",
    "NaN",
    "<b>",
    "../../x",
    "/etc/passwd",
    "-",
    "--help",
    "=1+1",
    "range(1,5)",
    "choice(1,2)",
    "interval(0,1)",
    "glob(*)",
    "int(1)",
    "float(x)",
    "json_str({})",
    "shuffle(1,2)",
    "sort(3,1)",
    "1,2",
    "extend_list(1)",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "x" * 3000,
    "[" * 200,
    "qv",
    "qkvo",
    "none",
    "0-1",
    "q:4",
    "{q:4}",
    "auto",
    "cpu",
)
BOGUS = (
    "lora.rnk",
    "foo",
    "lora.rank.x",
    "lora",
    "hydra.foo",
    "",
    ".",
    "lora.",
    ".rank",
    "a.b.c.d",
    "lora[rank]",
    "model@x",
    "lora/rank",
    "ä",
    "hydra",
    "seed.x",
    "lora.ranks.q",
    "+lora.rank",
    "hydra.run.dir",
    "hydra.job.name",
    "hydra.verbose",
)


def keys_of(spec: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key with its type."""
    for f in fields(spec):
        hint = hints_of(spec)[f.name]
        if is_dataclass(hint):
            yield from keys_of(hint, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", hint


KEYS = {**dict(keys_of(RunSpec)), **dict(keys_of(Settings))}
del KEYS["output_dir"], KEYS["cache_dir"]  # the test's own
LINE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a key's type, most of them allowed."""
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(LINE, max_size=2)
    if get_origin(hint) is FrozenMap:
        places = st.sampled_from(["q", "v", "0-1", "q/0", "kv", "3", "x", "q/"])
        return st.dictionaries(places, st.integers(-1, 20) if get_args(hint)[0] is int else LINE, max_size=3)
    if len(parts := alternatives(hint)) > 1:
        return st.one_of(*map(fitting, parts))
    numbers = st.integers(1, 64) | st.integers() | st.sampled_from([0, -1, 2**31, 2**63, 10**20])
    simple: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: numbers,
        float: st.floats(1e-4, 0.9) | st.floats() | st.integers(0, 3),
        str: LINE
        | st.sampled_from(
            ["qv", "none", "all", "text", "label", "train", "accuracy", "loss", "a-b_c", "0-1", "asset:r52", "pydoc"]
        ),
    }
    return simple[hint]


@st.composite
def override(draw: st.DrawFn) -> str:
    """One argument of the command line."""
    kind = draw(st.sampled_from(["value"] * 10 + ["junk"] * 3 + ["group", "bogus", "grammar"]))
    if kind == "value":
        key = draw(st.sampled_from(sorted(KEYS)))
        value = draw(fitting(KEYS[key]))
        if isinstance(value, list):
            return f"{key}=[{','.join(map(hydra_value, value))}]"
        return f"{key}={hydra_value(value)}"
    if kind == "group":
        names = ("default", "gpt2", "sst2", "none", "dora", *JUNK)
        return f"{draw(st.sampled_from(GROUPS))}={draw(st.sampled_from(names))}"
    key = draw(st.sampled_from(sorted(KEYS) if kind == "junk" else BOGUS))
    sign = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    value = draw(st.sampled_from(JUNK) | LINE)
    if kind == "grammar":
        return draw(
            st.sampled_from(
                [key, f"{key}==", f"{sign}{value}", f"={value}", f"{key} = {value}", f"{key}:{value}", value]
            )
        )
    return f"{sign}{key}={draw(st.sampled_from([value, hydra_value(value), f'[{value}]', f'{{a:{value}}}']))}"


JOBS = st.lists(override(), min_size=1, max_size=3)


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
        assert "\n" not in text.strip() and 10 < len(text) < 2500
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
    ("key", "value"), list(zip(("lora.rank", "task.path", "lora.ranks", "pack") * 10, JUNK[::3], strict=False))
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
