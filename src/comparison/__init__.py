"""What records say when they are held against each other: cells, tables, choices and findings. Reads no files."""

from src.comparison.cells import Cell, group_cells
from src.comparison.choose import Choice, choose
from src.comparison.find import find, find_all
from src.comparison.findings import Contender, Difference, Estimate, Findings
from src.comparison.sampling import ExamplesOf, no_examples
from src.comparison.table import Column, Problem, StudyTable, Table, build_tables

__all__ = [
    "Cell",
    "Choice",
    "Column",
    "Contender",
    "Difference",
    "Estimate",
    "ExamplesOf",
    "Findings",
    "Problem",
    "StudyTable",
    "Table",
    "build_tables",
    "choose",
    "find",
    "find_all",
    "group_cells",
    "no_examples",
]
