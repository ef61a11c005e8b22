"""Scores of generated texts against hand-made sums and against sacreBLEU and rouge-score themselves."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from src.metrics import text_metrics

WORDS = ["the", "a", "cat", "sat", "on", "mat", "is", "near"]
SENTENCES = st.lists(st.sampled_from([*WORDS, ","]), min_size=1, max_size=9).map(" ".join)
CORPORA = st.lists(st.tuples(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3)), min_size=1, max_size=4)


def test_bleu_by_hand() -> None:
    # n-grams found in the reference: 5 of 6 (one "the" too many), 3 of 5, 2 of 4, 1 of 3; equally long
    scores = text_metrics(["the cat sat on the mat"], [["the cat sat on a mat"]])
    assert scores["bleu"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))


def test_bleu_punishes_brevity() -> None:
    scores = text_metrics(["the cat sat on"], [["the cat sat on a mat"]])
    assert scores["bleu"] == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_bleu_takes_its_ngrams_from_all_references_and_its_length_from_the_nearest() -> None:
    alone = text_metrics(["the cat sat on a mat"], [["the cat sat on mats"]])["bleu"]
    together = text_metrics(["the cat sat on a mat"], [["the cat sat on mats", "sat on a mat it was red that mat"]])
    # 4 + 2, 3 + 2, 2 + 2 and 1 + 1 n-grams; of lengths 5 and 9 the first is nearer, so there is no penalty
    assert together["bleu"] == pytest.approx(100 * (6 / 6 * 5 / 5 * 4 / 4 * 2 / 3) ** (1 / 4))
    assert alone is not None and together["bleu"] > alone


def test_bleu_is_of_the_corpus_not_the_mean_of_its_texts() -> None:
    texts, references = ["the cat sat on the mat", "no"], [["the cat sat on the mat"], ["yes"]]
    # 6 of 7 tokens, and all longer n-grams, of which the second text has none
    assert text_metrics(texts, references)["bleu"] == pytest.approx(100 * (6 / 7) ** (1 / 4))


def test_chrf_by_hand() -> None:
    # 2 of 3 characters, 1 of 2 pairs, no triple; equally long, so precision and recall are the mean of the three
    assert text_metrics(["abc"], [["abd"]])["chrf"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert text_metrics(["abc"], [["xyz", "abd"]])["chrf"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


def test_rouge_by_hand() -> None:
    # 2 common words, no common pair, a longest common subsequence of 1, in 3 and 5 words
    scores = text_metrics(["cat the sat"], [["The cat is on mat."]])
    assert scores["rouge1"] == pytest.approx(2 * 2 / (3 + 5))
    assert scores["rouge2"] == 0.0
    assert scores["rougeL"] == pytest.approx(2 * 1 / (3 + 5))
    assert text_metrics(["the cat sat"], [["the cat is on mat"]])["rouge2"] == pytest.approx(2 * 1 / (2 + 4))


def test_rouge_and_exact_match_take_the_best_reference_and_the_mean_over_texts() -> None:
    scores = text_metrics(["red cat", "blue"], [["no", "red cat", "red"], ["green"]])
    assert (scores["rouge1"], scores["rougeL"], scores["exact_match"]) == (0.5, 0.5, 0.5)
    assert text_metrics(["Red cat"], [["red cat"]])["exact_match"] == 0.0


@given(CORPORA)
def test_agrees_with_the_libraries(corpus: list[tuple[str, list[str]]]) -> None:
    texts, references = [text for text, _ in corpus], [true for _, true in corpus]
    scores = text_metrics(texts, references)
    most = max(map(len, references))
    streams = [[true[k] if k < len(true) else None for true in references] for k in range(most)]
    if any(len(text.split()) >= 4 for true in references for text in true):
        assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams, force=True).score)
    else:
        assert scores["bleu"] is None
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, streams).score)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in scorer.rouge_types:
        best = [max(scorer.score(true, text)[name].fmeasure for true in trues) for text, trues in corpus]
        if not any(true == "," for trues in references for true in trues):
            assert scores[name] == pytest.approx(sum(best) / len(best))


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=4, max_size=9).map(" ".join), min_size=1, max_size=5))
def test_what_stands_in_the_references_is_perfect(texts: list[str]) -> None:
    scores = text_metrics(texts, [["a mat", text] for text in texts])
    assert scores == {name: pytest.approx(100 if name in {"bleu", "chrf"} else 1) for name in scores}


def test_undefined_scores_are_none_and_bad_ones_0() -> None:
    assert text_metrics(["\u732b"], [["\u732b"]]) == {  # no Latin letter for ROUGE, no four tokens for BLEU
        "bleu": None, "chrf": pytest.approx(100), "rouge1": None, "rouge2": None, "rougeL": None, "exact_match": 1.0
    }  # fmt: skip
    assert set(text_metrics([""], [["the cat sat on the mat"]]).values()) == {0.0}
    mixed = text_metrics(["\u732b", "cat"], [["\u732b"], ["cat"]])
    assert mixed["rouge1"] == 1.0


@pytest.mark.parametrize(("texts", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_texts_without_references_are_a_mistake(texts: list[str], references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="lists of references"):
        text_metrics(texts, references)


def test_nothing_is_said_of_texts_that_look_tokenised(capfd: pytest.CaptureFixture[str]) -> None:
    text_metrics(["the cat sat on the mat ."] * 150, [["the cat sat on the mat ."]] * 150)
    assert capfd.readouterr() == ("", "")
