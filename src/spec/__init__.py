"""Run specifications: frozen values that every other package takes."""

from src.spec.identity import default_study, run_id, run_spec_from_dict, slug, source_name, to_dict
from src.spec.run import (
    HalvingSpec,
    LoraSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    Settings,
    TaskKind,
    TaskSpec,
    TrackingSpec,
    TrainerSpec,
)
from src.spec.targets import LETTERS, Letter, canonical_targets, expand_targets
from src.spec.validate import LOWER_IS_BETTER, METRICS, check_settings, layer_range, normalise

__all__ = [
    "LETTERS",
    "LOWER_IS_BETTER",
    "METRICS",
    "HalvingSpec",
    "Letter",
    "LoraSpec",
    "ModelSpec",
    "OptimSpec",
    "RunSpec",
    "Settings",
    "TaskKind",
    "TaskSpec",
    "TrackingSpec",
    "TrainerSpec",
    "canonical_targets",
    "check_settings",
    "default_study",
    "expand_targets",
    "layer_range",
    "normalise",
    "run_id",
    "run_spec_from_dict",
    "slug",
    "source_name",
    "to_dict",
]
