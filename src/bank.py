"""Serve a study's adapters over one base: what that costs in memory, on disk and in time; or export one of them.

    python -m src.bank what_rank
    python -m src.bank what_rank runs=all targets=qv,qkvo limit=32 batch=16 length=128 rounds=20
    python -m src.bank what_rank import=/adapters/mood,/adapters/topics        # peft's, beside the study's own
    python -m src.bank what_rank export=<run_id> to=adapter                    # peft format (format=peft)
    python -m src.bank what_rank export=<run_id> to=model format=merged        # a model that plain transformers loads

Loads each base of the study once, with the best LoRA run of each configuration (runs=all: every completed run), at
most limit of them (default 64). Checks that an adapter answers the same merged, unmerged and as one of many in a mixed
batch; then prints memory, bytes on disk, time to switch and time of a forward pass over batch (default 16) rows of
length tokens (default: the study's own; pictures have their model's size), each timed rounds (default 10) times, and
writes <study>/bank.json. An imported adapter brings its head.safetensors along, and pools as its head.json says; where
it has none, as the study's runs do.
export= takes a run id, or a part of one that no other has. The folder to= must not exist; it gets a README.md that says
how to load it, and where the task has a head, head.safetensors and head.json. dtype= is the precision of merged
weights, to which they are rounded once, after merging: float32 (default), bfloat16 or float64.
Also: output_dir= (default outputs), cache_dir= and device= (default as in conf/config.yaml).
Exit codes: 0 done; 1 no such study or run, no adapters, or answers differ; 2 wrong arguments.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src.config import to_settings
from src.config.compose import compose_config
from src.config.messages import run_command
from src.errors import ConfigError, HarnessError
from src.records import RunRecord, Study, StudyPaths, find_study, read_study, write_json_atomic
from src.spec import Settings, canonical_targets

CHOICES = {"runs": ("best", "all"), "format": ("peft", "merged"), "dtype": ("float32", "bfloat16", "float64")}
NUMBERS = {"limit": 1, "batch": 1, "length": 1, "rounds": 5}
SETTINGS = ("output_dir", "cache_dir", "device")
MOST_SHOWN = 10
KEYS = (*CHOICES, *NUMBERS, *SETTINGS, "targets", "import", "export", "to")


@dataclass(frozen=True)
class Options:
    """What is asked for; see the top of this file.

    Attributes:
        length: None for the study's own.
        export: a run id or a part of one, None to measure.
    """

    runs: Literal["best", "all"] = "best"
    targets: tuple[str, ...] = ()
    limit: int = 64
    batch: int = 16
    length: int | None = None
    rounds: int = 10
    imports: tuple[Path, ...] = ()
    export: str | None = None
    to: Path | None = None
    format: Literal["peft", "merged"] = "peft"
    dtype: str = "float32"


def cli(arguments: Sequence[str]) -> int:
    """Load, measure or export, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        name, options, settings = read_arguments(arguments)
        paths = find_study(Path(settings.output_dir), name, "output_dir=<folder>")
        study = read_study(paths)
        if options.export is not None:
            _export(study, paths, options, settings)
        else:
            _measure(study, paths, options, settings)

    return run_command(arguments, __doc__, work)


def read_arguments(arguments: Sequence[str]) -> tuple[str, Options, Settings]:
    """The study's name and what is asked of it; ``--output-dir x`` is the same as ``output_dir=x``.

    Raises:
        ConfigError: not one study, an unknown key, or a value that is not allowed.
    """
    words, given = _split(arguments)
    if len(words) != 1:
        raise ConfigError("study", " ".join(words) or None, "the name of one study: python -m src.bank <study>")
    own = {"imports" if key == "import" else key: _value(key, given[key]) for key in given if key not in SETTINGS}
    if ("export" in own) != ("to" in own):
        missing = "to" if "export" in own else "export"
        raise ConfigError(missing, None, f"export=<run_id> and to=<new folder> go together; {missing}= is missing")
    settings = to_settings(compose_config([f"{key}={given[key]}" for key in SETTINGS if key in given]))
    return words[0], Options(**own), settings


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words that stand alone, and values by key."""
    words: list[str] = []
    given: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        key, sign, value = word.removeprefix("--").partition("=")
        if not sign and not word.startswith("--"):
            words.append(word)
            continue
        key = key.replace("-", "_")
        if key not in KEYS or (not sign and not waiting):
            raise ConfigError("option", word, f"<key>=<value> with one of {', '.join(KEYS)}")
        given[key] = value if sign else waiting.pop(0)
    return words, given


def _value(key: str, text: str) -> Any:
    if key in CHOICES and text not in CHOICES[key]:
        raise ConfigError(key, text, ", ".join(CHOICES[key]))
    if key in NUMBERS and not (text.isascii() and text.isdigit() and int(text) >= NUMBERS[key]):
        raise ConfigError(key, text, f"a whole number of at least {NUMBERS[key]}")
    match key:
        case "targets":
            return tuple(canonical_targets(part.strip(), key) for part in text.split(","))
        case "import":
            return tuple(Path(part.strip()).expanduser() for part in text.split(","))
        case "to":
            return Path(text).expanduser()
        case _:
            return int(text) if key in NUMBERS else text


def _export(study: Study, paths: StudyPaths, options: Options, settings: Settings) -> None:
    """Raises:
    HarnessError: no such completed run, or what `src.models.export.export` raises.
    """
    record = _find_run(study, str(options.export))
    # Torch and transformers come with it: neither --help nor a wrong argument should wait for them.
    from src.models.export import Exported, export  # noqa: PLC0415

    assert options.to is not None
    run = Exported(record, paths.run(record.run_id))
    export(run, options.to, options.format, Path(settings.cache_dir).expanduser(), options.dtype)
    print(f"{record.run_id} {'in peft format' if options.format == 'peft' else 'as one merged model'}: {options.to}")


def _find_run(study: Study, part: str) -> RunRecord:
    completed = {record.run_id: record for record in study.records if record.status == "completed"}
    found = [part] if part in completed else [name for name in completed if part in name]
    if len(found) == 1:
        return completed[found[0]]
    shown = found or [*completed]
    listed = ", ".join(shown[:MOST_SHOWN]) + (f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else "")
    if found:
        raise HarnessError(f"{len(found)} completed runs of study {study.name!r} have {part!r} in their id: {listed}.")
    there = f"there are: {listed}" if listed else "none is complete so far"
    raise HarnessError(f"No completed run of study {study.name!r} has {part!r} in its id; {there}.")


def _measure(study: Study, paths: StudyPaths, options: Options, settings: Settings) -> None:
    """Raises:
    ConfigError: adapters to import, and more than one base to put them on.
    HarnessError: no adapters, or what `src.experiment.bank.serving.serve` raises.
    """
    from src.experiment.bank.served import as_json, show  # noqa: PLC0415
    from src.experiment.bank.serving import Shape, imported, residents, serve  # noqa: PLC0415
    from src.experiment.environment import describe_environment  # noqa: PLC0415
    from src.experiment.resources import Resources  # noqa: PLC0415

    groups = residents(study, paths, options.runs, options.targets, options.limit)
    if options.imports and len(groups) > 1:
        raise ConfigError("import", str(options.imports[0]), f"nothing for a study of {len(groups)} bases")
    for folder in options.imports:
        groups[0].append(imported(folder, groups[0][0].spec, [resident.name for resident in groups[0]]))
    resources = Resources(settings.device, Path(settings.cache_dir).expanduser())
    shape = Shape(options.batch, options.length, options.rounds)
    found = []
    for group in groups:
        served = serve(group, resources, shape)
        env = describe_environment(resources.device, resources.dtype(group[0].spec.trainer.dtype))
        print(
            f"{served.model}: {served.num_parameters:,} parameters; {len(group)} adapters; {env['dtype']} on ", end=""
        )
        print(f"{env['device_name']}, {env['threads']} threads; {options.rounds} rounds")
        show(served)
        found.append({**as_json(served), "env": env})
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_json_atomic(paths.bank, {"date": date, "study": study.name, "bases": found})
    print(paths.bank)


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
