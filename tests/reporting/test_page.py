from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from src.records import RunRecord, StudyPaths, read_study
from src.reporting import write_report
from src.reporting.document import Code, Document, Section
from src.reporting.html import unbroken
from src.reporting.markdown import document_markdown
from tests.plots.studies import run
from tests.record_factory import make_record, make_spec, save

ORDER = ["answer", "scores", "adapters", "costs", "not-ranked", "paper", "reproduce", "files"]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Ids of sections, words outside of styles, every address that a browser might fetch, and tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]
        values = dict(attrs)
        self.sections += [values["id"] or ""] if tag == "section" else []
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += "" if self.open[-1:] == ["style"] else f"{data} "


def outline(paths: StudyPaths) -> Outline:
    page = Outline(paths.page.read_text())
    assert page.open == []
    return page


def page_of(paths: StudyPaths) -> Outline:
    write_report(read_study(paths), paths, within=0.01)
    return outline(paths)


def words(tmp_path: Path, *records: RunRecord) -> str:
    return " ".join(page_of(save(tmp_path, "study", *records)).words.split())


def test_the_page_answers_first_and_ends_with_how_to_reproduce(full_report: StudyPaths) -> None:
    page = outline(full_report)
    assert page.sections == ORDER
    answer, scores = (page.words.index(word) for word in ("Best by validation accuracy", "configuration"))
    assert answer < scores
    assert [address for address in page.addresses if address.startswith("#")][:8] == [f"#{name}" for name in ORDER]


def test_nothing_is_fetched_and_nothing_runs(full_report: StudyPaths) -> None:
    page = outline(full_report)
    assert not page.tags & {"script", "iframe", "object", "embed"}
    assert all(re.match(r"#|figures/[\w.-]+$|data:", address) for address in page.addresses)
    text = full_report.page.read_text()
    assert "url(http" not in text and "@import" not in text and "default-src 'none'" in text
    assert all((full_report.report / a).is_file() for a in page.addresses if a.startswith("figures/"))


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    records = [
        run("qv", 1, 0.8, model__path=f"/models/{hostile}"),
        run("qv", 2, 0.8, model__path=f"/models/{hostile}"),
        make_record(make_spec("q", 4, model__path=f"/models/{hostile}"), status="failed", message=hostile),
    ]
    paths = save(tmp_path, "a&b", *records)
    page = page_of(paths)
    assert "script" not in page.tags
    assert hostile in page.words and "a&b" in page.words
    outside = re.sub(r"^```.*?^```$", "", paths.report_markdown.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert "&lt;script>" in outside and "<script" not in outside + paths.table_markdown.read_text()


def test_a_study_of_one_cell(tmp_path: Path) -> None:
    text = words(tmp_path, run("qv", 4, 0.8))
    assert "Best by validation accuracy: qv r=4" in text and "One seed: no interval over seeds" in text
    assert "Every run that was started has completed" in text


def test_a_study_that_is_half_done_says_what_is_missing(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        "study",
        *(run("qv", 4, 0.8, seed=seed) for seed in (0, 1)),
        run("q", 4, 0.79),
        make_record(make_spec("q", 8), status="diverged"),
        make_record(make_spec("q", 2), status="interrupted"),
    )
    paths.run("running").checkpoints.mkdir(parents=True)
    paths.run("broken").root.mkdir()
    paths.run("broken").record.write_text("{")
    text = " ".join(page_of(paths).words.split())
    assert "the loss is not finite at step 30" in text and "stopped before its end" in text
    assert "running no record" in text and "not read" in text and "not strict JSON" in text
    assert "q r=4 (alpha 16, lr 0.003) missing seed 1 of other cells; never started" in text
    assert "7 runs: 3 completed" in text


def test_an_empty_study_is_one_clear_sentence(tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    paths.runs.mkdir(parents=True)
    page = page_of(paths)
    assert page.sections == ["answer"]
    assert "No run has ended yet: there is nothing to compare." in page.words


def test_a_study_of_nothing_but_corrupt_records_lists_them(tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    paths.run("broken").root.mkdir(parents=True)
    paths.run("broken").record.write_text("{")
    assert "not strict JSON" in page_of(paths).words


def test_without_analysis_the_page_names_its_command(tmp_path: Path) -> None:
    assert "python -m src.analyze study" in words(tmp_path, run("qv", 4, 0.8))


def test_an_analysis_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", run("qv", 4, 0.8))
    paths.analysis.mkdir()
    (paths.analysis / "subspace.json").write_text("{")
    assert "is not an analysis that can be read" in page_of(paths).words


def test_each_model_and_task_has_a_section(tmp_path: Path) -> None:
    records = [run("qv", 4, 0.8, model__path=model) for model in ("asset:minilm", "roberta-base")]
    page = page_of(save(tmp_path, "study", *records))
    assert page.sections[:3] == ["answer", "scores-1", "scores-2"]
    assert "Scores: roberta-base on r52, accuracy" in page.words


def test_lower_is_better_is_said(tmp_path: Path) -> None:
    changes = {"task__kind": "regression", "task__metric": "mse"}
    records = [make_record(make_spec("qv", rank, **changes), 1 / rank, 1 / rank) for rank in (1, 2)]  # type: ignore[arg-type]
    text = words(tmp_path, *records)
    assert "Best by validation mse: qv r=2" in text and "Lower scores are better." in text
    assert "lower is better" in text


def test_missing_test_scores_stay_missing(tmp_path: Path) -> None:
    text = words(tmp_path, *(make_record(make_spec("qv", rank), 0.9, None) for rank in (1, 2)))
    assert "test missing" in text and "0.0000" not in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_columns_without_a_value_are_left_out(tmp_path: Path, seeds: int) -> None:
    records = [run("qv", rank, 0.8 + rank / 50 + seed / 1000, seed=seed) for rank in (1, 2) for seed in range(seeds)]
    assert ("difference from best" in words(tmp_path, *records)) == (seeds == 2)


def test_markdown_says_the_same_and_links_the_figures(full_report: StudyPaths) -> None:
    page, text = outline(full_report), full_report.report_markdown.read_text()
    assert next(line for line in text.splitlines() if line.startswith("## ")) == "## Answer"
    links = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert links and all((full_report.report / link).is_file() for link in links)
    assert set(links) == {address for address in page.addresses if address.startswith("figures/")}


def test_code_in_markdown_is_untouched_whatever_it_holds() -> None:
    text = "a 'b\n```\n# c' <d> | \\"
    lines = document_markdown(Document("t", "s", (Section("x", "x", (Code(text),)),))).splitlines()
    assert lines[-5:] == ["````", "a 'b", "```", "# c' <d> | \\", "````"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("-0.0057 (-0.0075 to -0.0038)", ["-0.0057", "(-0.0075\xa0to\xa0-0.0038)"]),
        ("0.8979 to 0.9055", ["0.8979\xa0to\xa00.9055"]),
        ("0.01 (highest tried)", ["0.01", "(highest\xa0tried)"]),
        ("16.9 %", ["16.9\xa0%"]),
    ],
)
def test_a_narrow_column_breaks_no_interval(text: str, parts: list[str]) -> None:
    assert unbroken(text).split(" ") == parts
