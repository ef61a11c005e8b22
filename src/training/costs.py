"""What one lane's training costs in memory, counted once from its tensors: nothing here changes what is trained.

Counted are the bytes that the lane alone would need, whatever company it trains in: the frozen weights that it computes
with, what it trains, gradients, optimiser state, and what its forward pass keeps for backward. The pack's working
memory (temporary results, other lanes, the allocator's reserve) shows in the peak only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from src.data import IGNORED, Batch
from src.models.adapted import AdaptedModel
from src.models.losses import loss_sum
from src.models.memory import held_bytes
from src.spec import UNFROZEN, OptimSpec, RunSpec
from src.training.lane import Lane

# Of each base, what a lane of a kind keeps for a batch of a geometry.
_measured: weakref.WeakKeyDictionary[nn.Module, dict[Any, int]] = weakref.WeakKeyDictionary()


def measure_forward(model: AdaptedModel, lanes: Sequence[Lane], batch: Batch) -> None:
    """Note of each lane its weights, and the activations that it keeps when it goes through the model alone.

    One forward pass more for each lane that is the first of its kind in this process; its dropout generator is put
    back, so that training draws what it would have drawn. Lanes are measured alone because in a pack all rows go
    through all layers, also those of a lane that needs no gradient there.

    Args:
        batch: always the same micro-batch, so that all seeds, and resumed runs, come to the same numbers.
    """
    participating = model.lanes
    for lane in lanes:
        known, key = _measured.setdefault(model.base.model, {}), (_kind(lane.spec), _geometry(batch))
        if key not in known:
            known[key] = _activation_bytes(model, lane, batch)
        lane.costs["activation_bytes"] = known[key]
        lane.costs["trained_weight_bytes"] = held_bytes(lane.parameters.values())
        lane.costs["frozen_weight_bytes"] = _frozen_bytes(model, lane)
    model.retain(participating)


def measure_gradients(lanes: Sequence[Lane]) -> None:
    """Note the gradients; between the backward pass and the optimiser's step."""
    for lane in lanes:
        lane.costs["gradient_bytes"] = held_bytes(p.grad for p in lane.parameters.values() if p.grad is not None)


def measure_optimizer(lanes: Sequence[Lane]) -> None:
    """Note the optimiser's state; after a step that was taken."""
    for lane in lanes:
        values = [value for state in lane.optimizer.state.values() for value in state.values()]
        lane.costs["optimizer_bytes"] = held_bytes(value for value in values if isinstance(value, Tensor))


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, and that nothing else keeps.

    Parameters, frozen weights and other tensors that are merely referenced outlive the graph and so do not count. A
    graph that was dropped on the way, such as that of an output which nobody used, does not count either.

    Args:
        forward: gives the tensor from which backward would start.
    """
    saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Saved:
        handle = _Saved(tensor.detach())
        saved.add(handle)
        return handle

    with _young_objects(), saved_tensors_hooks(pack, lambda handle: handle.tensor):
        root = forward()
        sizes = _storages(saved)
        del root
        if saved:  # the graph hangs in a cycle
            gc.collect(0)
    return sum(size for storage, size in sizes if storage.expired())


@contextlib.contextmanager
def _young_objects() -> Iterator[None]:
    """What is made within stays in the collector's youngest generation: all others hold too much to be looked through.

    A full collection takes a quarter of a second once the libraries are loaded, several times a forward pass.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Saved:
    """Stands in the graph for a saved tensor, and goes with the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _storages(saved: Iterable[_Saved]) -> list[tuple[StorageWeakRef, int]]:
    storages = {}
    for handle in saved:
        storage = handle.tensor.untyped_storage()
        storages[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
    return list(storages.values())


def _activation_bytes(model: AdaptedModel, lane: Lane, batch: Batch) -> int:
    model.retain([lane.index])
    generator = model.roster.generators[lane.index]
    before = generator.get_state()
    size = saved_bytes(partial(_loss, model, lane, batch))
    generator.set_state(before)
    return size


def _kind(spec: RunSpec) -> RunSpec:
    """The spec without what cannot change the number of bytes: seed and learning rates."""
    smoothing = spec.optim.label_smoothing
    return dataclasses.replace(spec, seed=0, optim=OptimSpec(lr=1.0, head_lr=1.0, label_smoothing=smoothing))


def _geometry(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """Tokens of each row, and how many of its labels count."""
    labels = batch.labels.unsqueeze(-1) if batch.labels.dim() == 1 else batch.labels
    counted = (labels != IGNORED).sum(dim=1)
    return tuple(batch.attention_mask.sum(dim=1).tolist()), tuple(counted.tolist()), tuple(batch.labels.shape)


def _loss(model: AdaptedModel, lane: Lane, batch: Batch) -> Tensor:
    (output,) = model.forward([batch], training=True)
    return loss_sum(lane.spec.task.kind, output, lane.spec.optim.label_smoothing)


def _frozen_bytes(model: AdaptedModel, lane: Lane) -> int:
    """The base, less what trained values stand in for; the factors that PiSSA takes off it; a random subspace's P."""
    weights = dict(model.base.model.named_parameters())
    if lane.spec.method.name in UNFROZEN:
        weights = {name: weight for name, weight in weights.items() if name not in lane.parameters}
    origins = [adapter.origin for adapter in model.adapters[lane.index].values() if adapter.origin is not None]
    factors = [factor for origin in origins for factor in (origin.a, origin.b)]
    return held_bytes([*weights.values(), *factors, *model.method.constants()])
