"""What LoRA and adapter layers cost when a model is used: time of one forward pass (Hu et al. 2021, table 1).

    python -m src.latency
    python -m src.latency model=gpt2_medium batch=32,16,1 length=512,256,128 rank=4
    python -m src.latency model.path=/models/my-bert batch=1,16 length=128,256 targets=qkvo rounds=20

Compares the base, LoRA unmerged, LoRA merged, and adapter layers in the designs of Houlsby et al. and of Lin et al.
(src/models/methods/adapter_layers.py), in one process and in turns. batch and length are lists of equal length and give
the inputs pair by pair; bottleneck (default 64) is the adapter layers' width, rounds (default 10) how often each is
timed. Pictures (model=vit_base task=digits) have their model's own size, so that there is no length to choose. The rest
is as in `python -m src.train`; rank and targets stand for lora.rank and lora.targets. No data are read.
Prints a table and writes <output_dir>/latency/<model>-<targets>-r<rank>-<device>-<dtype>.json.
Exit codes: 0 measured; 1 no such model, or variants differ that should compute the same; 2 wrong config.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.config.messages import run_command
from src.errors import ConfigError
from src.records import write_json_atomic
from src.spec import RunSpec, Settings, source_name, to_dict

if TYPE_CHECKING:
    from src.models.latency import Timing

SHORT = {"rank": "lora.rank", "targets": "lora.targets"}
# Table 1's shapes where there is a GPU, and with an eighth of the rows where there is none.
PAPER, SMALL = ("32,16,1", "512,256,128"), ("4,2,1", "512,256,128")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for beside the config.

    Attributes:
        batch, length: lists as typed; None for the default.
        rounds: timings of each variant.
        bottleneck: width of the adapter layers.
    """

    batch: str | None = None
    length: str | None = None
    rounds: int = 10
    bottleneck: int = 64


def cli(arguments: Sequence[str]) -> int:
    """Compose, measure, print, write, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        overrides, options = split_arguments(arguments)
        config = compose_config(overrides)
        run(to_spec(config), to_settings(config), options)

    return run_command(arguments, __doc__, work)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], Options]:
    """Overrides for the config, and our own options.

    Raises:
        ConfigError: rounds or bottleneck is no whole number of at least what makes sense.
    """
    overrides: list[str] = []
    own: dict[str, Any] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if key in {"batch", "length"}:
            own[key] = value
        elif key in {"rounds", "bottleneck"}:
            (own[key],) = whole_numbers(key, value, least=5 if key == "rounds" else 1, many=False)
        else:
            overrides.append(f"{SHORT.get(key, key)}{sign}{value}")
    return overrides, Options(**own)


def whole_numbers(key: str, text: str, *, least: int = 1, many: bool = True) -> list[int]:
    """Raises:
    ConfigError: `text` is not a whole number of at least `least`, or with `many` a list of such.
    """
    parts = text.split(",") if many else [text]
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) >= least for part in parts):
        listed = f"whole numbers of at least {least} with commas between them, such as 16,1"
        raise ConfigError(key, text, listed if many else f"a whole number of at least {least}")
    return [int(part) for part in parts]


def shapes(options: Options, *, gpu: bool, most: int | None) -> list[tuple[int, int]]:
    """Pairs of batch and length.

    Args:
        most: longest input of the model in tokens; default lengths are cut to it.

    Raises:
        ConfigError: lists of different length, or an input that is too long.
    """
    batch, length = PAPER if gpu else SMALL
    batches = whole_numbers("batch", options.batch or batch)
    lengths = whole_numbers("length", options.length or length)
    if most is not None and options.length is None:
        lengths = [min(tokens, most) for tokens in lengths]
    if options.length is None and len(batches) != len(lengths):
        lengths = lengths[-1:] * len(batches)
    if len(batches) == 1:
        batches *= len(lengths)
    if len(lengths) == 1:
        lengths *= len(batches)
    if len(batches) != len(lengths):
        raise ConfigError("length", options.length, f"one length, or one for each batch: {len(batches)}")
    if most is not None and max(lengths) > most:
        raise ConfigError("length", max(lengths), f"at most {most}, the model's positions")
    return list(zip(batches, lengths, strict=True))


def pictures(options: Options, length: int, *, gpu: bool) -> list[tuple[int, int]]:
    """The batches, all with `length`, which says nothing of pictures."""
    batch, _ = PAPER if gpu else SMALL
    return [(rows, length) for rows in whole_numbers("batch", options.batch or batch)]


def run(spec: RunSpec, settings: Settings, options: Options) -> Path:
    """Measure, print and write; gives the file.

    Raises:
        ConfigError: targets none, or what does not fit the model.
        HarnessError: the model cannot be loaded, or variants do not compute what they should.
    """
    if spec.lora.targets == "none":
        raise ConfigError("lora.targets", "none", "sets that adapt something, such as qv")
    sees = spec.task.image is not None
    if sees and options.length is not None:
        raise ConfigError("length", options.length, "nothing with task.image, as pictures have the model's own size")
    # Torch and transformers come with it: neither --help nor a wrong config should wait for them.
    from src.experiment.environment import describe_environment  # noqa: PLC0415
    from src.experiment.resolve import resolve_cell  # noqa: PLC0415
    from src.experiment.resources import Resources  # noqa: PLC0415
    from src.models.latency import Variants, measure  # noqa: PLC0415
    from src.models.loading import max_positions, outline  # noqa: PLC0415

    resources = Resources(settings.device, Path(settings.cache_dir))
    most = max_positions(outline(spec.model, spec.task.kind, resources.cache_dir))
    gpu = resources.device.type == "cuda"
    pairs = pictures(options, spec.task.max_length, gpu=gpu) if sees else shapes(options, gpu=gpu, most=most)
    # Which implementation of attention is used follows from the longest input.
    task = dataclasses.replace(spec.task, max_length=max(length for _, length in pairs))
    cell = resolve_cell(dataclasses.replace(spec, task=task), resources.cache_dir)
    base = resources.base(cell.spec)
    variants = Variants(base, cell.setup, options.bottleneck)
    timings = [timing for batch, length in pairs for timing in measure(variants, batch, length, options.rounds)]
    env = describe_environment(resources.device, resources.dtype(spec.trainer.dtype))
    place = f"{env['dtype']} on {env['device_name']}, {env['threads']} threads"
    size = f"; pictures of {' x '.join(map(str, timings[0].shape[1:]))}" if sees else ""
    print(f"{spec.model.path}: {base.num_parameters:,} parameters; {place}; {options.rounds} rounds{size}")
    show(timings)
    found = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": to_dict(cell.spec.model),
        "parameters": base.num_parameters,
        "lora": to_dict(cell.spec.lora),
        "rank": cell.setup.allocation.rank,
        "options": to_dict(options),
        "env": env,
        "timings": [{**to_dict(t), "median_s": t.median_s, "slowdown_percent": t.slowdown} for t in timings],
    }
    name = f"{source_name(spec.model.path)}-{cell.spec.lora.targets}-r{cell.setup.allocation.rank}"
    file = Path(settings.output_dir) / "latency" / f"{name}-{resources.device.type}-{env['dtype']}.json"
    write_json_atomic(file, found)
    print(file)
    return file


def show(timings: Sequence[Timing]) -> None:
    """Print the table; the quartiles over rounds are those of "slower"."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("input", "variant"):
        table.add_column(name, no_wrap=True)
    for name in ("parameters", "median ms", "slower %", "quartiles"):
        table.add_column(name, justify="right", no_wrap=True)
    for timing in timings:
        first = timing.variant == timings[0].variant
        slower = [] if first else [f"{timing.slowdown:+.1f}", quartiles(timing.slowdowns)]
        table.add_row(
            _input(timing.shape) if first else "",
            timing.variant,
            f"{timing.parameters:,}",
            f"{1000 * timing.median_s:.2f}",
            *slower,
        )
    Console().print(table)
    print("slower: median of the ratios to the base in the same round, which can differ from the ratio of the medians;")
    print("quartiles far apart mean that the machine was too busy to tell.")


def _input(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}" if len(shape) == 2 else f"{shape[0]} pictures"


def quartiles(values: Sequence[float]) -> str:
    """``+1.1 to +1.4``."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{low:+.1f} to {high:+.1f}"


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
