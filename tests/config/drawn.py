"""Overrides, valid or not, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from src.config.schema import alternatives
from src.reporting.sections.reproduce import hydra_value
from src.spec import FrozenMap, RunSpec, Settings
from src.spec.hints import hints_of

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
