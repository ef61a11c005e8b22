"""Methods other than LoRA: what LoRA is judged against, each with its source."""

from src.models.methods.make import make_method
from src.models.methods.method import Method, Unchanged, with_weights
from src.models.methods.sizes import allocate_method

__all__ = ["Method", "Unchanged", "allocate_method", "make_method", "with_weights"]
