"""Folder that src/config/schema.py adds to the namespace package hydra_plugins; Hydra imports what lies in it."""
