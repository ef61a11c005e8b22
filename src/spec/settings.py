"""Settings: how and where to run; nothing here can change a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from src.spec.slurm import SlurmSpec


@dataclass(frozen=True)
class TrackingSpec:
    """Where metrics are mirrored to.

    Attributes:
        backend: ``wandb`` or ``none``.
        mode: ``auto`` is online where a key is configured, else offline.
        log_every: optimiser steps between logged training metrics.
        init_timeout_s, finish_timeout_s: the longest a start or an end may wait for the server.
    """

    backend: Literal["wandb", "none"] = "wandb"
    mode: Literal["auto", "online", "offline"] = "auto"
    project: str = "lora-sweep"
    entity: str | None = None
    log_every: int = 10
    init_timeout_s: float = 30.0
    finish_timeout_s: float = 30.0


@dataclass(frozen=True)
class HalvingSpec:
    """Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): cells that fall behind are ended early.

    Nothing here changes the result of a cell that is trained to its end; it decides which cells are.

    Attributes:
        eta: after 1 / eta^k of the steps, for k = ..., 2, 1, the best 1 / eta go on; None ends nothing.
        scope: who competes: ``lr``, the learning rates (and alphas) of one configuration, so that every (targets, rank)
            keeps its best; or ``all``, also targets and ranks with each other.
        min_share: nothing is ended before this share of the steps, in (0, 1).
    """

    eta: int | None = None
    scope: Literal["lr", "all"] = "lr"
    min_share: float = 0.2


@dataclass(frozen=True)
class Settings:
    """How and where to run: nothing here can change a result.

    Attributes:
        study: folder name under `output_dir`.
        cache_dir: downloaded models and data, tokenised text.
        device: ``auto``, ``cpu`` or ``cuda``.
        rerun: run cells again that are complete.
        pack: most lanes in one pack; ``auto``: as many as train fastest and fit into memory, which is measured.
        within: margin of the sentence "smallest rank within ... of the best", in the metric's own unit.
        halving: which cells are ended before their end.
        slurm: what the launcher ``slurm`` asks of a cluster.
    """

    study: str
    output_dir: str
    cache_dir: str
    device: str = "auto"
    rerun: bool = False
    pack: int | Literal["auto"] = "auto"
    within: float = 0.01
    tracking: TrackingSpec = field(default_factory=TrackingSpec)
    halving: HalvingSpec = field(default_factory=HalvingSpec)
    slurm: SlurmSpec = field(default_factory=SlurmSpec)
