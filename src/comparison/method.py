"""What a reader calls a cell's method: the one place for these words.

LoRA's kin are told by the fields of LoraSpec: DoRA, rsLoRA, LoRA+ and PiSSA, also several together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from src.spec import RunSpec, kin_of

LORA, HEAD, FULL = "LoRA", "head only", "full fine-tuning"
SAID, DID = "random subspace (SAID)", "random subspace (DID)"
NAMES: Mapping[str, str] = {
    "full": FULL,
    "bitfit": "BitFit",
    "adapter_h": "Adapter^H",
    "adapter_l": "Adapter^L",
    "prefix": "prefix",
}
KIN: Mapping[str, str] = {"dora": "DoRA", "rslora": "rsLoRA", "plus": "LoRA+", "pissa": "PiSSA"}
# Fields that the method's name tells, where they take one value among the cells of that name.
TOLD_BY_NAME = ("method.name", "method.said", "lora.dora", "lora.rslora", "lora.b_lr_ratio", "lora.init")


def has_lora(spec: RunSpec) -> bool:
    """Whether matrices get LoRA or one of its kin, alone or beside something else."""
    return spec.lora.targets != "none"


def adapts(spec: RunSpec) -> bool:
    """Whether more than the task head is trained."""
    return has_lora(spec) or spec.method.name not in ("lora", "head")


def method_of(spec: RunSpec) -> str:
    """``LoRA``, ``DoRA + rsLoRA``, ``LoRA + prefix``, ``full fine-tuning``, ``head only``."""
    if has_lora(spec):
        beside = ["prefix"] if spec.method.name == "lora_prefix" else []
        return " + ".join([*([KIN[name] for name in kin_of(spec.lora)] or [LORA]), *beside])
    if not adapts(spec):
        return HEAD
    if spec.method.name == "random_subspace":
        return SAID if spec.method.said else DID
    return NAMES[spec.method.name]


def family_of(spec: RunSpec, write: Callable[[str], str] = str) -> str:
    """A method and its matrices, whatever the size: ``qv`` (plain LoRA), ``DoRA qv``, ``prefix``.

    Args:
        write: how target sets are written.
    """
    method = method_of(spec)
    if not has_lora(spec):
        return write("none") if method == HEAD else method
    return write(spec.lora.targets) if method == LORA else f"{method} {write(spec.lora.targets)}"


def full_family_of(spec: RunSpec, write: Callable[[str], str] = str) -> str:
    """`family_of` with the method in any case: ``LoRA qv``, ``head only``."""
    method = method_of(spec)
    return f"{method} {write(spec.lora.targets)}" if has_lora(spec) else method


def several_methods(specs: Sequence[RunSpec]) -> bool:
    """Whether there is more to tell apart than plain LoRA and the head alone."""
    return bool({method_of(spec) for spec in specs} - {LORA, HEAD})
