"""Frozen base models, task heads, and the two put together with adapters."""
