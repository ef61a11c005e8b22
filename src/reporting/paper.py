"""Figures that Hu et al. 2021 (arXiv 2106.09685) report, kept as reference data with their table numbers.

They are never results of this software; a report shows them beside its own and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "Hu et al. 2021, arXiv 2106.09685"


@dataclass(frozen=True)
class MatrixRow:
    """Table 5: GPT-3 175B, 18M adapter parameters in each row; validation accuracy in percent."""

    targets: str
    rank: int
    wikisql: float
    multinli: float


TABLE_5 = (
    MatrixRow("q", 8, 70.4, 91.0),
    MatrixRow("k", 8, 70.0, 90.8),
    MatrixRow("v", 8, 73.0, 91.0),
    MatrixRow("o", 8, 73.2, 91.3),
    MatrixRow("qk", 4, 71.4, 91.3),
    MatrixRow("qv", 4, 73.7, 91.3),
    MatrixRow("qkvo", 2, 73.7, 91.7),
)

# Table 6: GPT-3 175B; validation accuracy in percent by target set and rank.
TABLE_6_RANKS = (1, 2, 4, 8, 64)
TABLE_6: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "WikiSQL": {
        "q": (68.8, 69.6, 70.5, 70.4, 70.0),
        "qv": (73.4, 73.3, 73.7, 73.8, 73.5),
        "qkvo": (74.1, 73.7, 74.0, 74.0, 73.9),
    },
    "MultiNLI": {
        "q": (90.7, 90.9, 91.1, 90.7, 90.7),
        "qv": (91.3, 91.4, 91.3, 91.6, 91.4),
        "qkvo": (91.2, 91.7, 91.7, 91.5, 91.4),
    },
}

# Table 18: GPT-2 medium on E2E NLG, by rank.
TABLE_18_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TABLE_18: Mapping[str, tuple[float, ...]] = {
    "validation loss": (1.23, 1.21, 1.18, 1.17, 1.16, 1.16, 1.16, 1.16, 1.16, 1.16, 1.17),
    "BLEU": (68.72, 69.17, 70.38, 69.57, 69.61, 69.33, 69.24, 68.73, 68.92, 68.78, 69.37),
}


@dataclass(frozen=True)
class AmplificationRow:
    """Table 7: W_q of layer 48 of 96 of GPT-3; ||U^T W_q V^T||_F with U, V the top r singular directions of each."""

    rank: int
    along_dw: float
    along_w: float
    along_random: float
    dw_norm: float
    w_norm: float = 61.95

    @property
    def factor(self) -> float:
        """||dW||_F / ||U^T W V^T||_F."""
        return self.dw_norm / self.along_dw


TABLE_7 = (AmplificationRow(4, 0.32, 21.67, 0.02, 6.91), AmplificationRow(64, 1.90, 37.71, 0.33, 3.57))


@dataclass(frozen=True)
class MemoryRow:
    """Section 4.2: what training GPT-3 175B takes of the GPUs' memory, and its checkpoint, in bytes."""

    name: str
    size: str
    memory: float
    checkpoint: float


GPT3_MEMORY = (MemoryRow("full fine-tuning", "", 1.2e12, 350e9), MemoryRow("LoRA", "q,v r=4", 350e9, 35e6))


@dataclass(frozen=True)
class IntrinsicRow:
    """d90 with SAID on two tasks of GLUE."""

    model: str
    mrpc: int
    qqp: int


# Not read from the paper itself but from what others cite of it.
D90_SOURCE = "Aghajanyan et al. 2020, arXiv 2012.13255, cited at second hand"
D90 = (
    IntrinsicRow("BERT-base", 1608, 8030),
    IntrinsicRow("RoBERTa-base", 896, 896),
    IntrinsicRow("RoBERTa-large", 207, 774),
)

NOTES = (
    "Tables 5, 6 and 7 are GPT-3 175B on WikiSQL and MultiNLI, tables 5 and 6 validation accuracy; the standard "
    "deviation over seeds is about 0.5 points on WikiSQL and 0.1 on MultiNLI. Table 18 is GPT-2 medium on E2E NLG.",
    "Table 5 spends about 18M adapter parameters, 0.01 % of GPT-3's weights.",
)
