"""The answer in two sentences, then what weakens it."""

from __future__ import annotations

from src.reporting.answer import answer, answer_table, unfinished
from src.reporting.document import Block, Bullets, Paragraph, Section
from src.reporting.material import Material

NUM_LEAD = 2


def answer_section(material: Material) -> Section:
    """For each table: the sentences on matrices and rank, and the others as a list."""
    if not material.findings:
        return Section("Answer", "answer", (Paragraph(" ".join(answer((), material.tables)), lead=True),))
    blocks: list[Block] = []
    for findings in material.findings:
        sentences = answer_table(findings)
        if not material.single:
            blocks.append(Paragraph(f"{findings.table.title}:"))
        blocks += [Paragraph(sentence, lead=True) for sentence in sentences[:NUM_LEAD]]
        blocks += [Bullets(tuple(sentences[NUM_LEAD:]))] if sentences[NUM_LEAD:] else []
    blocks += [Paragraph(sentence) for sentence in unfinished(material.tables)]
    return Section("Answer", "answer", tuple(blocks))
