"""Real models and data that come inside wheels of the Python package index."""

from src.assets.catalogue import ASSETS, Asset, Wheel
from src.assets.fetch import is_asset, resolve_asset

__all__ = ["ASSETS", "Asset", "Wheel", "is_asset", "resolve_asset"]
