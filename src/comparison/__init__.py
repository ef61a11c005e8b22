"""What records say when they are held against each other: cells, tables, choices and findings. Reads no files."""

from src.comparison.cells import Cell, group_cells
from src.comparison.choose import Choice, choose
from src.comparison.table import Column, Problem, StudyTable, Table, build_tables

__all__ = ["Cell", "Choice", "Column", "Problem", "StudyTable", "Table", "build_tables", "choose", "group_cells"]
