"""What is composed cell by cell in a grid is what Hydra composes: values, their types, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.compose import CONF, NAME, VERSION_BASE, compose_cells, compose_sweep
from src.config.convert import resolved
from src.config.grid import Grid
from src.config.messages import paragraph
from src.config.schema import register

Compose = Callable[[list[str]], DictConfig]


@pytest.fixture(scope="module")
def loader() -> ConfigLoader:
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=VERSION_BASE):
        return GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def sweep(loader: ConfigLoader) -> DictConfig:
    return loader.load_configuration(NAME, [], RunMode.MULTIRUN)


@pytest.fixture(scope="module")
def by_hydra(loader: ConfigLoader, sweep: DictConfig) -> Compose:
    def compose(overrides: list[str]) -> DictConfig:
        config = loader.load_sweep_config(sweep, overrides)
        with open_dict(config):
            del config["hydra"]
        return config

    return compose


@pytest.fixture(scope="module")
def grid(loader: ConfigLoader, by_hydra: Compose) -> Grid:
    """One for all tests, as all cells of a sweep share one: what a cell leaves in it must not reach the next one."""
    return Grid(by_hydra, loader.list_groups(""))


def outcome(compose: Callable[[list[str]], Any], overrides: list[str]) -> str:
    """Values with their types, or what a person reads."""
    try:
        return repr(resolved(compose(overrides)))
    except Exception as error:
        return f"{type(error).__name__}: {paragraph(error)}"


ODD = [
    # interpolations of the defaults: the rank gives way to a budget, a method's size as well
    ["lora.budget=4608"],
    ["method=adapter_h", "lora.budget=4608", "seed=3"],
    ["method=prefix", "method.size=3", "lora.budget=null"],
    # interpolations of the command line: absolute, relative, within a text, of a group, by a resolver, of a name
    ["study=${task.max_length}", "task.max_length=32"],
    ["lora.alpha=${.rank}", "lora.rank=4"],
    ["lora.alpha=${lora.rank}", "lora.rank=${.budget}", "lora.budget=5"],
    ["study=r${lora.rank}-s${seed}", "seed=3", "lora.rank=2"],
    ["model.projections={q: '${task.text}.{i}'}", "task.text=body"],
    ["lora.ranks={q: '${..rank}'}", "lora.rank=2"],
    ["lora.ranks=${lora}", "lora.rank=2"],
    ["study=${oc.select:lora.rank,x}", "lora.rank=2"],
    ["study=${oc.select:lora.${task.text},x}", "task.text=rank", "lora.rank=2"],
    ["study=${lora.${task.text}}", "task.text=rank", "lora.rank=2"],
    ["study=${lora[rank]}", "lora.rank=2"],
    ["lora.init=${oc.select:.targets}", "lora.targets=q"],
    ["study='\\\\${seed}'", "seed=4"],
    ["study=${nowhere}", "seed=4"],
    ["study=${nowhere}", "study=here"],
    ["seed=${seed}"],
    # groups, wherever they stand, with values of their own
    ["lora.alpha=8", "lora=dora", "method=lora_prefix", "lora.rank=3"],
    ["+sweep=methods", "lora=pissa", "trainer.epochs=2", "lora.budget=100"],
    ["tracking=none", "tracking.log_every=3"],
    # mappings, lists, null, missing values, texts with odd characters
    ["lora.ranks={q: 4, v/0-2: 8}", "lora.rank=2"],
    ["lora.ranks=null", "lora.ranks={q: 4}"],
    ["lora.ranks={q: 4}", "lora.ranks=null"],
    ["lora.ranks={q: 4}", "lora.ranks={v: 4}"],
    ["lora.ranks=[1,2]", "lora.budget=null"],
    ["halving={eta: 3}", "halving.min_share=0.5"],
    ["lora={alpha: 3}", "lora.alpha=4"],
    ["task.text=???", "seed=1"],
    ["study='a,b'", "task.prompt=\"x = {y}\\n# 'z' \""],
    ["study=null", "lora.layers=null", "optim.clip=null", "study=''"],
    # types: what is written as a whole number or as text becomes what the schema says
    ["optim.lr=1", "study=5", "rerun=yes", "trainer.epochs=2", "pack=4", "task.max_length='64'"],
    ["lora.rank=4", "lora.rank=5"],
    # additions and deletions, whose order counts
    ["++lora.rank=3", "lora.rank=2"],
    ["lora.rank=2", "++lora.rank=3"],
    ["study=a", "++study=b"],
    ["+lora.foo=1", "lora.rank=2"],
    ["+foo=1", "seed=2"],
    ["lora.rank=2", "~lora.rank"],
    ["~tracking", "tracking.log_every=3"],
    ["~seed", "seed=2"],
    # errors
    ["seed=1", "lora.rank=abc"],
    ["lora.rank=1.5", "seed=x"],
    ["seed=x", "+seed=3"],
    ["lora.rnk=2"],
    ["lora.rank.x=2"],
    ["lora.rank=1,2"],
    ["lora.rank=[1,2]"],
    ["lora=nope", "lora.rank=2"],
    ["lora=3"],
    ["task.text=null"],
    ["pack=1.5"],
    ["lora"],
    ["lora.rank=(3"],
]  # fmt: skip


@pytest.mark.parametrize("overrides", ODD, ids=" ".join)
def test_odd_cells_are_what_hydra_composes(overrides: list[str], grid: Grid, by_hydra: Compose) -> None:
    assert outcome(grid.cell, overrides) == outcome(by_hydra, overrides)


TEXTS = st.text('aß€ "\\,=:{}[]()#%&$@+~-.?/3', max_size=6).map(lambda text: f"'{text}'")
NUMBERS = st.integers(-5, 10**9).map(str) | st.floats(allow_nan=False).map(repr) | st.sampled_from(["1e-3", "null"])
NAMES = st.sampled_from(["lora.rank", "lora.alpha", ".rank", "seed", "task.text", "oc.env:HOME", "study", "trainer"])
ANY = st.one_of(
    NUMBERS,
    TEXTS,
    st.sampled_from(["true", "off", "abc", "qv", "???", "[1,x]", "{q: 4}", "{q: 4, k: '${seed}'}", "auto"]),
    NAMES.map("${{{}}}".format),
    NAMES.map("x-${{{}}}".format),
)
KEYS = st.sampled_from([
    "lora.rank", "lora.budget", "lora.targets", "lora.alpha", "lora.ranks", "lora.layers", "lora.dora", "optim.lr",
    "optim.clip", "seed", "study", "task.text", "task.max_length", "task.prompt", "trainer.dtype", "method.size",
    "model.projections", "tracking.log_every", "halving.eta", "pack", "rerun", "within", "lora.nope", "nope",
])  # fmt: skip
LIKELY = {
    "lora.rank": st.integers(1, 64).map(str),
    "lora.budget": st.integers(1, 10**6).map(str),
    "optim.lr": st.floats(1e-5, 1).map(repr),
    "lora.ranks": st.dictionaries(st.sampled_from(["q", "kv", "3", "q/0-2"]), st.integers(1, 9)).map(
        lambda ranks: f"{{{','.join(f'{where}:{rank}' for where, rank in ranks.items())}}}"
    ),
    "study": TEXTS,
    "task.prompt": TEXTS,
}
GROUPS = st.sampled_from(["method=adapter_h", "method=full", "lora=dora", "lora=pissa", "task=pydoc", "tracking=none"])


@st.composite
def cells(draw: st.DrawFn) -> list[str]:
    """Overrides in any order, of which most are allowed and some are not."""
    keys = draw(st.lists(KEYS, max_size=5))
    values = [f"{key}={draw(LIKELY[key] if key in LIKELY and draw(st.booleans()) else ANY)}" for key in keys]
    signs = draw(st.sampled_from([[""] * 8] * 6 + [["++"] + [""] * 7, ["", "+"] + [""] * 6]))
    groups = draw(st.lists(GROUPS, max_size=2, unique_by=lambda text: text.partition("=")[0]))
    return draw(st.permutations([sign + value for sign, value in zip(signs, values, strict=False)] + groups))


# Hydra takes a tenth of a second for each.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=cells())
def test_cells_of_any_kind_are_what_hydra_composes(overrides: list[str], grid: Grid, by_hydra: Compose) -> None:
    assert outcome(grid.cell, overrides) == outcome(by_hydra, overrides)


def test_hydra_composes_once_for_each_choice_of_groups(loader: ConfigLoader, by_hydra: Compose) -> None:
    composed: list[list[str]] = []

    def counted(overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return by_hydra(overrides)

    grid = Grid(counted, loader.list_groups(""))
    for method in ("lora", "adapter_h"):
        for budget in range(100, 110):
            for seed in range(5):
                grid.cell([f"method={method}", f"lora.budget={budget}", f"seed={seed}", "lora.ranks={q: 2}"])
    assert composed == [["method=lora"], ["method=adapter_h"]]


def test_a_cell_is_no_part_of_the_next_one(grid: Grid) -> None:
    first = grid.cell(["lora.rank=3", "seed=5"])
    second = grid.cell(["optim.lr=0.5"])
    assert isinstance(first, dict) and isinstance(second, dict)
    assert (first["lora"]["rank"], first["seed"], second["lora"]["rank"], second["seed"]) == (3, 5, 8, 0)


def test_a_sweep_has_the_cells_of_its_file_and_of_the_command_line() -> None:
    found = compose_sweep(["+sweep=grid", "lora.rank=2,3", "lora.budget=null"])
    assert [cell.name for cell in found] == [
        f"lora.rank={rank} lora.targets={targets}" for rank in (2, 3) for targets in ("qv", "qkvo")
    ]
    assert [resolved(cell.config)["lora"]["rank"] for cell in found] == [2, 2, 3, 3]


def test_the_first_cell_that_cannot_be_composed_says_so(loader: ConfigLoader, sweep: DictConfig) -> None:
    jobs = [["lora.rank=1"], ["lora.rank=abc"], ["lora.rnk=2"]]
    with pytest.raises(Exception) as caught:
        compose_cells(loader, sweep, jobs)
    assert paragraph(caught.value) == "lora.rank is 'abc'; allowed: a whole number, or null."


def test_a_config_that_needs_hydra_alone_is_still_resolved(grid: Grid) -> None:
    config = grid.cell(["++lora.rank=3", "lora.rank=2"])
    assert OmegaConf.is_dict(config)
    assert resolved(config)["lora"]["rank"] == 2
