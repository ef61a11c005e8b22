"""An `evaluate` module that wraps sacreBLEU and rouge-score, so that no script is fetched from a hub.

evaluate copies this file and imports the copy, so it stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import datasets
import evaluate
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

ROUGES = ("rouge1", "rouge2", "rougeL")


class Text(evaluate.Metric):
    """bleu and chrf from 0 to 100; rouge1, rouge2, rougeL and exact_match from 0 to 1, as their libraries give them.

    bleu: over the whole corpus, all references of a text at once (Papineni et al. 2002), with sacreBLEU's defaults:
        tokens as mteval-v13a cuts them, case kept, exponential smoothing. None where no reference has the four tokens
        of its longest n-gram. (The E2E challenge's own script, which the LoRA paper uses, ignores case.)
    chrf: chrF2 over the whole corpus, character n-grams up to 6, with the best of a text's references (Popovic 2015).
    rouge1, rouge2, rougeL: F-measure with the best of a text's references, mean over texts (Lin 2004), not stemmed.
        Only Latin letters and digits count, so a text without them in any reference has none: it is left out of the
        mean, which is None where nothing remains.
    exact_match: share of texts that equal one of their references.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = {"predictions": text, "references": datasets.Sequence(text)}
        return evaluate.MetricInfo(
            description="Overlap of generated texts with one or more references each.",
            citation="Post, A Call for Clarity in Reporting BLEU Scores, WMT 2018; Lin, ROUGE, 2004.",
            inputs_description="predictions: texts [n]; references: for each a list of one text or more.",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
        # One stream for each place in the lists of references; None where a text has fewer.
        streams = list(zip_longest(*references))
        bleu = BLEU(force=True)  # without advice about hypotheses that look tokenised: a model may well write such text
        long = any(len(bleu.tokenizer(text).split()) >= bleu.max_ngram_order for true in references for text in true)
        scores = {
            "bleu": float(bleu.corpus_score(predictions, streams).score) if long else None,
            "chrf": float(CHRF().corpus_score(predictions, streams).score),
        }
        matches = [given in true for given, true in zip(predictions, references, strict=True)]
        return scores | _rouge(predictions, references) | {"exact_match": sum(matches) / len(matches)}


def _rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - takes seconds, and few tasks generate text
    from rouge_score.tokenizers import DefaultTokenizer  # noqa: PLC0415

    tokenizer = DefaultTokenizer(use_stemmer=False)
    scorer = RougeScorer(ROUGES, tokenizer=tokenizer)
    scored = []
    for given, true in zip(predictions, references, strict=True):
        countable = [reference for reference in true if tokenizer.tokenize(reference)]
        if countable:
            scored.append(scorer.score_multi(countable, given))
    return {
        name: sum(float(score[name].fmeasure) for score in scored) / len(scored) if scored else None for name in ROUGES
    }
