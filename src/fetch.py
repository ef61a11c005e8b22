"""Fetch a model and a task's data into the cache, so that the first training starts at once or without a network.

    python -m src.fetch                                  # the default model and data
    python -m src.fetch model=smollm2 task=pydoc
    python -m src.fetch model.path=openai-community/gpt2 task=sst2 cache_dir=/shared/lora-sweep

Takes the overrides of `python -m src.train`. What is there already is not fetched again.
Exit codes: 0 all there; 1 no network, no such model or data; 2 wrong config.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.config.messages import run_command
from src.spec import RunSpec, Settings


def fetch(spec: RunSpec, settings: Settings) -> None:
    """Load what a run of `spec` would load first, and say where it lies.

    Raises:
        HarnessError: the model or the data cannot be had.
    """
    # Torch and transformers come with it: neither --help nor a wrong config should wait for them.
    from src.experiment.display.console import configure_logging  # noqa: PLC0415
    from src.experiment.resources import Resources  # noqa: PLC0415

    configure_logging(None)
    resources = Resources("cpu", Path(settings.cache_dir))
    base = resources.base(spec)
    print(f"model {spec.model.path}: {base.num_parameters:,} parameters, in {_place(base.source)}", flush=True)
    data = resources.data(spec)
    sizes = f"{len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test examples"
    print(f"task {spec.task.path}: {sizes}, in {settings.cache_dir}")


def cli(arguments: Sequence[str]) -> int:
    """Compose, fetch, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        config = compose_config(arguments)
        fetch(to_spec(config), to_settings(config))

    return run_command(arguments, __doc__, work)


def _place(source: str) -> str:
    return source if Path(source).exists() else "the Hugging Face cache"


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
