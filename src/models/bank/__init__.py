"""Many adapters over one frozen base: the bank itself, its layers, task heads, and what serving costs."""

from src.models.bank.bank import AdapterBank
from src.models.bank.head import TaskHead, read_head, saved_pooling

__all__ = ["AdapterBank", "TaskHead", "read_head", "saved_pooling"]
