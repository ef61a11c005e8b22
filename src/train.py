"""Train one cell, or a sweep of cells: the front door.

    python -m src.train                                                  # one run with the defaults
    python -m src.train model=smollm2 task=pydoc lora.targets=qkvo       # another model and task
    python -m src.train -m lora.rank=1,4,8,64 lora.targets=qv,qkvo       # a sweep: 8 cells
    python -m src.train -m lora.budget=73728 lora.targets=q,k,v,o,qkvo   # one budget, the rank follows
    python -m src.train +sweep=what_rank                                 # a sweep that sweeps/ describes
    python -m src.train --cfg job                                        # the composed config; --help lists the groups

The same command again continues: complete cells are skipped, interrupted ones resume, failed ones run again.
Exit codes: 0 all cells complete; 1 something failed; 2 wrong config, nothing was started; 130 interrupted.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from typing import Any

if __name__ == "__main__":
    # Before the libraries are loaded, which takes seconds.
    from src.experiment.processes.signals import end_on_signals

    end_on_signals()

import hydra
from hydra._internal import utils as hydra_internals
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config import register
from src.config.cells import Cell, run_cells, run_cells_on_slurm
from src.config.compose import CONF, NAME, VERSION_BASE
from src.config.jobs import run_job
from src.config.messages import paragraph, report
from src.errors import HarnessError, InterruptedRunError

STAMP = "LORA_SWEEP_STAMP"

# Before torch is loaded: by default its threads spin for long while they wait for one another, which costs several
# times the work itself as soon as anything else runs on the machine. A step of 8 lanes on two cores: spinning briefly
# 0.81 s, sleeping 0.94 s; beside two busy loops 1.59 s and 1.93 s.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# Likewise: torch and oneDNN keep kernels for every shape that they meet, up to 1024 each. With texts of every length
# that is some MB for each further cell even of a tiny model, and nothing is gained beyond those of a few steps.
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# On import, because a submitit worker imports this module but never calls cli().
register()


def run_cell(config: DictConfig) -> float | None:
    """Hydra's task function: one cell, for single runs and for launchers that know nothing of lanes.

    Returns:
        The cell's validation score.

    Raises:
        HarnessError: the cell failed; its launcher goes on with the other jobs and fails at the end.
        KeyboardInterrupt: in place of InterruptedRunError, because a launcher goes on after an Exception.
        SystemExit: a single run failed and said why; on its way up Hydra would add lines of its own.
    """
    single, cell = HydraConfig.get().mode == RunMode.RUN, Cell("", config)
    choices = HydraConfig.get().runtime.choices
    try:
        # Without -m Hydra asks no launcher.
        if single and choices.get("hydra/launcher") == "slurm":
            return run_cells_on_slurm([cell])[0]
        # Other sweepers know nothing of studies, so that each cell reports its own.
        if not single and choices.get("hydra/sweeper") == "grid":
            return run_job(cell)
        return run_cells([cell], isolated=single)[0]
    except InterruptedRunError as error:
        raise KeyboardInterrupt(str(error)) from error
    except Exception as error:
        if single:
            raise SystemExit(report(error)) from error
        # As text, because submitit pickles it.
        raise HarnessError(paragraph(error)) from error


def cli() -> int:
    """Parse the command line, run, and turn every error into one paragraph and an exit code."""
    os.environ[STAMP] = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}_{secrets.token_hex(2)}"
    # Hydra would print errors in its own words and exit with 1 for all of them; HYDRA_FULL_ERROR=1, the public way
    # to have them raised, would be inherited by child processes.
    hydra_internals.run_and_report = _call
    try:
        _run_hydra()
    except (Exception, KeyboardInterrupt) as error:
        return report(error)
    return 0


def _run_hydra() -> None:
    try:
        hydra.main(config_path=str(CONF), config_name=NAME, version_base=VERSION_BASE)(run_cell)()
    finally:
        # Here, where a reader that has gone can be told from an error; at its exit Python could only complain.
        sys.stdout.flush()


def _call(func: Any) -> Any:
    return func()


if __name__ == "__main__":
    # Under its own name, not as __main__, so that submitit can pickle run_cell by reference.
    from src.train import cli as main

    sys.exit(main())
