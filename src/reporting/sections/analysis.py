"""What the saved adapters look like inside."""

from __future__ import annotations

from collections.abc import Sequence

from src.reporting.document import Code, Paragraph, Picture, Section, gallery
from src.reporting.material import Material, follow_up

TITLE, ANCHOR = "Inside the adapters", "adapters"


def analysis_section(material: Material, pictures: Sequence[Picture]) -> Section:
    """Figures of the analysis, or the command that makes it."""
    command = Code(follow_up("analyze", material))
    if material.analysis_error is not None:
        return Section(TITLE, ANCHOR, (Paragraph(material.analysis_error), command))
    if not material.analysis:
        text = (
            "The saved adapters have not been analysed yet. This command does it, from the files of this study alone:"
        )
        return Section(TITLE, ANCHOR, (Paragraph(text), command))
    nothing = Paragraph("The analysis has nothing that can be drawn; its tables are among the files.")
    return Section(TITLE, ANCHOR, tuple(gallery(pictures) or [nothing]))
