"""How fast and how small it is, against peers and against the machine's own limits.

    python -m src.bench step       # one training step against peft, loralib, the frozen model alone, and the products
    python -m src.bench step model=smollm2 batch=8 length=128 rank=16 targets=qkvo dtype=float32 rounds=20
    python -m src.bench memory     # bytes saved for backward, peak, optimiser state
    python -m src.bench sweep      # the main command's 8 cells: ours, peft + HF Trainer, peft in one process
    python -m src.bench sweep ranks=1,8 targets=qv rounds=1 task.train_size=320 task.test_size=200
    python -m src.bench analysis   # thin against dense spectral analysis of 32 adapters
    python -m src.bench analysis study=what_rank   # and what a study's analysis takes beside its training
    python -m src.bench start      # first step, each further cell's fixed cost, second start through tokenisation
    python -m src.bench scale cells=1000,10000   # planning and report of large sweeps, without their training

All pieces of work take turns in one process tree, over the same tokens, seeds and dropout; results are compared before
anything is timed. Each prints medians, quartiles, ratios round by round and how they stand to the goals, and writes
<output_dir>/bench/<what>.json and <what>.md. The peers come with `pip install -c constraints.txt -e ".[bench]"`.

step    batch=16 length=64 rounds=10 lanes=1,8 dtype=float32,bfloat16 (default: both where the hardware has bfloat16)
        rows=frozen,stock,products,ours,lanes,dora,top,lengths,peft,train,peft_dora,loralib (default: all)
        clock=wall, or cpu: the process's processor time, for a machine that others use too; best with OMP_NUM_THREADS=1
memory  batch=16 length=64 targets=qv,qkvo dropout=0,0.1 dtype=float32,bfloat16 rows=kept,peak
sweep   rounds=5 ranks=1,4,8,64 targets=qv,qkvo lr=... rows=ours,ours32,trainer,peft (and concurrent)
start   rounds=5 cells=16
analysis  rounds=5 adapters=32 d=1024,2048 ranks=1,4,8,64 (their mix, and each alone) dtype=float64 dense=... (adapters
        that are also decomposed as matrices; default: all of the mix at d <= 1024, else 4) study=... (in output_dir)

rounds is how often each piece is timed, at least 5 (sweep and start take less, to try them). rank, targets and dropout
stand for lora.rank and so on; the rest is as in `python -m src.train`, such as model=smollm2, task=r8, device=cpu or
output_dir=outputs.
Exit codes: 0 measured; 1 a peer is missing, or results differ that should be equal; 2 wrong arguments.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from src.benchmarks.found import Found
from src.benchmarks.request import Benchmark, Fractions, Number, Numbers, Request, Words, split_arguments
from src.benchmarks.show import show, write
from src.config import to_settings, to_spec
from src.config.compose import compose_config, compose_sweep
from src.config.messages import run_command
from src.errors import ConfigError

SHORT = {"rank": "lora.rank", "targets": "lora.targets", "dropout": "lora.dropout"}
DTYPES = Words((), ("float32", "bfloat16", "float64"))
STEP_ROWS = (
    "frozen", "stock", "products", "ours", "lanes", "dora", "top", "lengths", "peft", "train", "peft_dora", "loralib",
)  # fmt: skip
# As in src/train.py: before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def _step(request: Request) -> Found:
    from src.benchmarks.step import run  # noqa: PLC0415 - torch comes with it, for which --help should not wait

    return run(request)


def _memory(request: Request) -> Found:
    from src.benchmarks.memory import run  # noqa: PLC0415

    return run(request)


def _sweep(request: Request) -> Found:
    from src.benchmarks.sweep import run  # noqa: PLC0415

    return run(request)


def _start(request: Request) -> Found:
    from src.benchmarks.start import run  # noqa: PLC0415

    return run(request)


def _analysis(request: Request) -> Found:
    from src.benchmarks.analysis import run  # noqa: PLC0415

    return run(request)


def _scale(request: Request) -> Found:
    from src.benchmarks.scale import run  # noqa: PLC0415
    from src.config.cells import check_cells  # noqa: PLC0415

    return run(request, compose_sweep, check_cells)


BENCHMARKS: dict[str, Benchmark] = {
    "step": Benchmark(
        _step,
        {
            "batch": Number(16),
            "length": Number(64, least=2),
            "rounds": Number(10, least=5),
            "lanes": Numbers((1, 8)),
            "dtype": DTYPES,
            "rows": Words(STEP_ROWS, STEP_ROWS),
            "clock": Words(("wall",), ("wall", "cpu")),
        },
    ),
    "memory": Benchmark(
        _memory,
        {
            "batch": Number(16),
            "length": Number(64, least=2),
            "targets": Words(("qv", "qkvo")),
            "dropout": Fractions((0.0, 0.1)),
            "dtype": DTYPES,
            "rows": Words(("kept", "peak"), ("kept", "peak")),
        },
    ),
    "sweep": Benchmark(
        _sweep,
        {
            "rounds": Number(5),
            "ranks": Numbers((1, 4, 8, 64)),
            "targets": Words(("qv", "qkvo")),
            "lr": Fractions(()),
            "rows": Words(("ours", "ours32", "trainer", "peft"), ("ours", "ours32", "trainer", "peft", "concurrent")),
        },
    ),
    "analysis": Benchmark(
        _analysis,
        {
            "rounds": Number(5, least=5),
            "adapters": Number(32, least=2),
            "dense": Number(None, least=2),
            "d": Numbers((1024, 2048), least=2),
            "ranks": Numbers((1, 4, 8, 64)),
            "dtype": Words(("float64",), ("float32", "float64")),
            "study": Words(()),
        },
    ),
    "scale": Benchmark(_scale, {"cells": Numbers((1000, 10_000))}),
    "start": Benchmark(_start, {"rounds": Number(5), "cells": Number(16, least=2)}),
}


def cli(arguments: Sequence[str]) -> int:
    """Compose, measure, print, write, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        what, request = read_arguments(arguments)
        found = BENCHMARKS[what].run(request)
        show(found)
        for file in write(found, request):
            print(file)

    return run_command(arguments, __doc__, work)


def read_arguments(arguments: Sequence[str]) -> tuple[str, Request]:
    """The benchmark's name, and what is asked of it.

    Raises:
        ConfigError: not one benchmark, or a value that is not allowed.
        hydra.errors.HydraException: as `compose_config`.
    """
    words = [argument for argument in arguments if "=" not in argument]
    if len(words) != 1 or words[0] not in BENCHMARKS:
        raise ConfigError("benchmark", " ".join(words) or None, f"one of {', '.join(BENCHMARKS)}, and key=value")
    rest = [argument for argument in arguments if "=" in argument]
    overrides, options = split_arguments(rest, BENCHMARKS[words[0]].options, SHORT)
    config = compose_config(overrides)
    command = shlex.join(["python", "-m", "src.bench", *arguments])
    return words[0], Request(words[0], to_spec(config), to_settings(config), options, tuple(overrides), command)


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
