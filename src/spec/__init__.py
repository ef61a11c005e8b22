"""Run specifications: frozen values that every other package takes."""

from src.spec.frozen import FrozenMap
from src.spec.identity import default_study, run_id, run_spec_from_dict, slug, source_name, to_dict
from src.spec.methods import NEW_WEIGHTS, SIZE_UNIT, SIZED, UNFROZEN, WITH_LORA, kin_of
from src.spec.run import (
    TEXT_KINDS,
    LoraSpec,
    MethodName,
    MethodSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    TaskKind,
    TaskSpec,
    TrainerSpec,
)
from src.spec.settings import HalvingSpec, Settings, TrackingSpec
from src.spec.slurm import SlurmSpec
from src.spec.targets import LETTERS, Letter, canonical_targets, expand_targets
from src.spec.validate import (
    LOWER_IS_BETTER,
    METRICS,
    TEXT_METRICS,
    check_settings,
    layer_range,
    normalise,
)

__all__ = [
    "LETTERS",
    "LOWER_IS_BETTER",
    "METRICS",
    "NEW_WEIGHTS",
    "SIZED",
    "SIZE_UNIT",
    "TEXT_KINDS",
    "TEXT_METRICS",
    "UNFROZEN",
    "WITH_LORA",
    "FrozenMap",
    "HalvingSpec",
    "Letter",
    "LoraSpec",
    "MethodName",
    "MethodSpec",
    "ModelSpec",
    "OptimSpec",
    "RunSpec",
    "Settings",
    "SlurmSpec",
    "TaskKind",
    "TaskSpec",
    "TrackingSpec",
    "TrainerSpec",
    "canonical_targets",
    "check_settings",
    "default_study",
    "expand_targets",
    "kin_of",
    "layer_range",
    "normalise",
    "run_id",
    "run_spec_from_dict",
    "slug",
    "source_name",
    "to_dict",
]
