"""The same adapters as peft and as loralib attach them."""

from __future__ import annotations

import warnings
from typing import Any

from src.adapters.attach import replace_module
from src.adapters.projections import Projection
from src.benchmarks.copies import stock_copy
from src.benchmarks.machine import require
from src.benchmarks.sides import Peer
from src.data import Batch
from src.errors import ConfigError
from src.models.loading import Base
from src.models.setup import LaneSetup
from src.spec import LoraSpec


def check_comparable(setup: LaneSetup) -> None:
    """Raises:
    ConfigError: adapters that the peers lack: on a part of a fused weight, of unequal ranks, or of our own kinds.
    """
    lora = setup.spec.lora
    if setup.spec.method.name != "lora" or lora.dora or lora.init == "pissa":
        raise ConfigError("method", setup.spec.method.name, "plain LoRA here; DoRA has rows of its own")
    if not setup.projections:
        raise ConfigError("lora.targets", lora.targets, "sets that adapt something, such as qv")
    if any(p.d_out != p.module_out for p in setup.projections):
        raise ConfigError("model.path", setup.spec.model.path, "models whose q, k and v have weights of their own")
    if not setup.allocation.uniform:
        raise ConfigError("lora.ranks", str(lora.ranks), "one rank for all matrices, which the peers' defaults have")


def peft_side(
    base: Base, setup: LaneSetup, batch: Batch, num_labels: int, *, dora: bool = False, base_dropout: bool = False
) -> Peer:
    """peft's adapters as `get_peft_model` makes them: in float32 also over a base in bfloat16.

    Args:
        base_dropout: whether the base's own dropout is on, as after `model.train()` in the HF Trainer.

    Raises:
        HarnessError: peft is not installed.
    """
    require("peft")
    import peft  # noqa: PLC0415 - an extra

    lora, own = setup.spec.lora, stock_copy(base)
    values: dict[str, Any] = {"lora_alpha": lora.alpha}  # said to be an int, and used as it is
    config = peft.LoraConfig(
        r=setup.allocation.rank,
        **values,
        lora_dropout=lora.dropout,
        target_modules=[base.prefix + p.module for p in setup.projections],
        use_rslora=lora.rslora,
        use_dora=dora,
    )
    with warnings.catch_warnings():
        # peft asks transformers for an attribute that was renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        peft.get_peft_model(own.model, config)
    own.model.train(base_dropout)
    factors = {}
    for projection in setup.projections:
        layer: Any = own.backbone.get_submodule(projection.module)
        layer.train()
        found = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
        factors[projection.key] = found | ({"m": layer.lora_magnitude_vector["default"].weight} if dora else {})
    return Peer(own, setup.spec, batch, num_labels, factors)


def loralib_side(base: Base, setup: LaneSetup, batch: Batch, num_labels: int) -> Peer:
    """loralib's Linear in place of each adapted layer; its factors have the base's precision.

    Raises:
        HarnessError: loralib is not installed.
    """
    require("loralib")
    own, factors = stock_copy(base), {}
    for projection in setup.projections:
        layer = _loralib_linear(own.backbone.get_submodule(projection.module), projection, setup)
        replace_module(own.backbone, projection.module, layer)
        factors[projection.key] = {"A": layer.lora_A, "B": layer.lora_B}
    return Peer(own, setup.spec, batch, num_labels, factors)


def _loralib_linear(module: Any, projection: Projection, setup: LaneSetup) -> Any:
    import loralib  # noqa: PLC0415 - an extra

    layer = loralib.Linear(
        projection.d_in,
        projection.d_out,
        r=setup.allocation.rank,
        lora_alpha=_alpha(setup.spec.lora, setup.allocation.rank),
        lora_dropout=setup.spec.lora.dropout,
        merge_weights=False,
        bias=module.bias is not None,
        device=module.weight.device,
        dtype=module.weight.dtype,
    )
    layer.fan_in_fan_out = projection.transposed
    layer.weight, layer.bias = module.weight, module.bias
    return layer


def _alpha(lora: LoraSpec, rank: int) -> float:
    """loralib divides by r always; with rsLoRA the scale is alpha / sqrt(r)."""
    return lora.alpha * rank**0.5 if lora.rslora else lora.alpha
