"""The door between Hydra and the rest: typed config in, frozen specs out, and readable errors."""

from src.config.convert import to_settings, to_spec
from src.config.schema import register

__all__ = ["register", "to_settings", "to_spec"]
