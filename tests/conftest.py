"""What every test gets: the asset cache, and an environment from which nothing leaves the machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from src.assets import ASSETS

DEFAULT_ASSETS = ("minilm", "r52")
ISOLATED = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_ERROR_REPORTING": "false",
    "NETRC": os.devnull,
    "TOKENIZERS_PARALLELISM": "false",
    # As in src/train.py: threads that wait must not keep the other core busy for long.
    "GOMP_SPINCOUNT": "20000",
    # Also as there: memory that grows with every new shape would hide what a test of memory looks for.
    "LRU_CACHE_CAPACITY": "64",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}

# Processes that test side by side share the cores; read once, when torch is first imported.
if _workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

# At import, not in a fixture: huggingface_hub reads its variables once, when it is first imported. A person's W&B
# key, in the environment or in netrc, must never send a test's runs to the server.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
os.environ.update(ISOLATED)
# How fast an example runs says something of the machine's load, nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


def _cache_dir() -> Path:
    return Path(os.environ.get("LORA_SWEEP_CACHE", "~/.cache/lora-sweep")).expanduser()


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where fetched assets and tokenised text lie; the same default as in conf/."""
    return _cache_dir()


@pytest.fixture(autouse=True)
def src_logger() -> Iterator[logging.Logger]:
    """The logger ``src``; what a test or a study in it sets up there ends with the test."""
    logger = logging.getLogger("src")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs absent assets; never the default ones where they are required, as in `make test`.

    ``@pytest.mark.assets`` needs the default model and data, ``@pytest.mark.assets("smollm2")`` what it names.
    """
    marker = item.get_closest_marker("assets")
    if marker is None or (os.environ.get("LORA_SWEEP_REQUIRE_ASSETS") and not marker.args):
        return
    root = _cache_dir() / "assets"
    absent = [name for name in marker.args or DEFAULT_ASSETS if not (root / ASSETS[name].folder).is_dir()]
    if absent:
        pytest.skip(f"{', '.join(absent)} not in {root}; `make fetch` brings the default model and data")
