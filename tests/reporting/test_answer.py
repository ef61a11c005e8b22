from __future__ import annotations

import numpy as np

from src.comparison import StudyTable, find_all, no_examples
from src.records import RunRecord
from src.records.examples import Examples
from src.reporting import answer
from tests.record_factory import make_record, make_spec, study_table


def answer_of(study: StudyTable, within: float = 0.01) -> list[str]:
    return answer(find_all(study.tables, no_examples, margin=within), study)


def told(*records: RunRecord, within: float = 0.01) -> list[str]:
    return answer_of(study_table(*records), within)


def test_the_whole_answer() -> None:
    records = [
        make_record(make_spec("qv", 1), 0.883, 0.95),
        make_record(make_spec("qv", 4), 0.905, 0.9),
        make_record(make_spec("qkvo", 64), 0.912, 0.897),
        make_record(make_spec("none", 1), 0.71, 0.7),
    ]
    assert told(*records) == [
        "Best by validation accuracy: qkvo r=64 (alpha 16, lr 0.003): validation 0.9120, test 0.8970, 196,608 adapter "
        "parameters.",
        "Smallest rank within 0.01 of it: qv r=4 (alpha 16, lr 0.003): validation 0.9050, test 0.9000, 6,144 adapter "
        "parameters.",
        "Head alone (targets none): validation 0.7100, test 0.7000.",
        "One learning rate for all cells (0.003): ranks may differ by how well it suits them.",
        "One seed: no interval over seeds, and nothing is tested.",
    ]


def test_nothing_is_chosen_on_test() -> None:
    rates = [(0.001, 0.90, 0.99), (0.003, 0.91, 0.50), (0.01, 0.90, 0.99)]
    sentences = told(*(make_record(make_spec("qv", 4, optim__lr=lr), v, t) for lr, v, t in rates))
    assert sentences[0].startswith(
        "Best by validation accuracy: qv r=4 (alpha 16, lr 0.003): validation 0.9100, test 0.5"
    )


def test_the_margin_is_met_in_spite_of_rounding() -> None:
    """0.912 - 0.902 is 0.010000000000000009."""
    pair = [make_record(make_spec("qv", 4), 0.902), make_record(make_spec("qv", 64), 0.912)]
    assert told(*pair)[1].startswith("Smallest rank within 0.01 of it: qv r=4 ")
    assert told(*pair, within=0.0099)[1] == "No smaller rank comes within 0.0099 of it."


def test_smallest_is_by_rank_then_by_parameters() -> None:
    near = [("qkvo", 2, 0.91), ("qv", 2, 0.91), ("qkvo", 64, 0.912), ("q", 4, 0.912)]
    sentences = told(*(make_record(make_spec(targets, rank), score) for targets, rank, score in near))
    assert sentences[1].startswith("Smallest rank within 0.01 of it: qv r=2 ")


def test_lower_is_better_for_a_loss() -> None:
    scores = [(1, 0.52), (4, 0.50), (8, 0.505), (64, 0.495)]
    sentences = told(*(make_record(make_spec("qv", rank, task__metric="loss"), score) for rank, score in scores))
    assert sentences[0].startswith("Best by validation loss: qv r=64 ")
    assert sentences[1].startswith("Smallest rank within 0.01 of it: qv r=4 ")


def test_a_head_that_no_adapter_beats_is_said_and_not_called_best() -> None:
    sentences = told(make_record(make_spec("qv", 4), 0.8), make_record(make_spec("none", 1), 0.85, 0.84))
    assert sentences[0].startswith("Best by validation accuracy: qv r=4 ")
    assert (
        "Head alone (targets none): validation 0.8500, test 0.8400; no adapter does better on validation." in sentences
    )


def grid(rates: dict[float, float]) -> list[RunRecord]:
    return [make_record(make_spec("qv", 4, optim__lr=rate), score) for rate, score in rates.items()]


def test_a_best_learning_rate_at_the_edge_is_flagged() -> None:
    high = "The best learning rate is the highest of those tried for qv r=4: widen the grid."
    low = "The best learning rate is the lowest of those tried for qv r=4: widen the grid."
    assert high in told(*grid({0.001: 0.8, 0.003: 0.9}))
    assert low in told(*grid({0.001: 0.9, 0.003: 0.8}))
    inside = told(*grid({0.001: 0.8, 0.003: 0.9, 0.01: 0.8}))
    assert high not in inside and low not in inside
    # Equal scores say nothing for the edge.
    assert not any("widen" in line for line in told(*grid({0.001: 0.9, 0.003: 0.9, 0.01: 0.9})))


def test_a_learning_rate_beyond_which_training_diverged_is_not_at_the_edge() -> None:
    tried = grid({0.001: 0.8, 0.003: 0.9})
    beyond = make_spec("qv", 4, optim__lr=0.01)
    assert not any("widen" in line for line in told(*tried, make_record(beyond, status="diverged")))
    assert any("widen" in line for line in told(*tried, make_record(beyond, status="failed")))


def test_survivors_of_a_cell_that_lost_a_seed_do_not_win() -> None:
    whole = [make_record(make_spec("qv", 4, seed=seed), 0.8) for seed in (0, 1)]
    partly = [
        make_record(make_spec("qv", 8, seed=0), 0.95),
        make_record(make_spec("qv", 8, seed=1), status="diverged"),
    ]
    sentences = told(*whole, *partly)
    assert sentences[0].startswith("Best by validation accuracy: qv r=4 ")
    passed_over = "qv r=8 (alpha 16, lr 0.003) has validation 0.9500 on 1 of 2 seeds and was passed over"
    assert any(line.startswith(passed_over) for line in sentences)
    alone = told(*partly)
    assert alone[0].endswith("12,288 adapter parameters, from 1 of 2 seeds.")


def test_what_is_said_of_seeds() -> None:
    def with_seeds(**seeds: range) -> list[str]:
        return told(*(make_record(make_spec(t, 4, seed=s), 0.8) for t, values in seeds.items() for s in values))

    assert with_seeds(q=range(1), v=range(1))[-1] == "One seed: no interval over seeds, and nothing is tested."
    assert with_seeds(q=range(1))[-1] == "One seed: no interval over seeds."
    assert with_seeds(q=range(3), v=range(3))[-1].startswith("Scores are means over 3 seeds. ")
    assert with_seeds(q=range(3))[-1] == "Scores are means over 3 seeds."
    assert "do not all share the same seeds" in with_seeds(q=range(3), v=range(2))[-1]
    assert with_seeds(q=range(1), v=range(1, 2))[-1].endswith("Cells do not all share the same one.")


def test_configurations_that_differ_in_what_varies_are_chosen_apart() -> None:
    records = [
        make_record(make_spec("qv", 4, lora__dropout=0.1, optim__lr=0.01), 0.90),
        make_record(make_spec("qv", 4, lora__dropout=0.0, optim__lr=0.003), 0.91),
        make_record(make_spec("qv", 2, lora__dropout=0.1), 0.905),
    ]
    sentences = told(*records)
    assert "qv r=4 (alpha 16, lr 0.003, dropout 0)" in sentences[0]
    assert "qv r=2 (alpha 16, lr 0.003, dropout 0.1)" in sentences[1]


def test_nothing_completed() -> None:
    sentences = told(
        make_record(make_spec("q"), status="failed"),
        make_record(make_spec("k"), status="failed"),
        make_record(make_spec("v"), status="diverged"),
        make_record(make_spec("none", 1), 0.7, 0.6),
    )
    assert sentences == [
        "No cell with adapters has a validation score (1 diverged, 2 failed): there is nothing to rank.",
        "Head alone (targets none): validation 0.7000, test 0.6000.",
    ]
    assert answer_of(StudyTable("s", (), (), ())) == ["No run has ended yet: there is nothing to compare."]


def test_several_tables_are_answered_by_title() -> None:
    sentences = told(make_record(make_spec()), make_record(make_spec(task__path="asset:r8")))
    assert [line.split(":")[0] for line in sentences] == ["minilm on r52, accuracy", "minilm on r8, accuracy"]


def test_runs_without_a_record_are_mentioned() -> None:
    tables = study_table(make_record(make_spec())).tables
    assert answer_of(StudyTable("s", tables, (), ("a",)))[-1] == "1 run has no record so far: the answer may change."
    assert answer_of(StudyTable("s", (), (), ("a", "b"))) == [
        "No run has ended yet: there is nothing to compare.",
        "2 runs have no record so far: the answer may change.",
    ]


def test_interrupted_runs_are_mentioned() -> None:
    stopped = make_record(make_spec("qv", 8), status="interrupted")
    assert told(make_record(make_spec()), stopped)[-1] == "1 run has been interrupted: the answer may change."


def over_seeds(scores: dict[tuple[str, int], list[float]], **changes: object) -> list[RunRecord]:
    """Validation and test alike."""
    return [
        make_record(make_spec(targets, rank, seed=seed, **changes), score, score)
        for (targets, rank), values in scores.items()
        for seed, score in enumerate(values)
    ]


FOUR = {
    ("qv", 8): [0.900, 0.910, 0.920, 0.930],
    ("qv", 1): [0.902, 0.908, 0.917, 0.928],
    ("q", 8): [0.886, 0.894, 0.905, 0.917],
    ("k", 1): [0.800, 0.812, 0.821, 0.831],
    ("k", 8): [0.801, 0.813, 0.820, 0.832],
}


def test_the_whole_answer_over_seeds() -> None:
    assert told(*over_seeds(FOUR), *over_seeds({("none", 1): [0.700, 0.713, 0.720, 0.728]})) == [
        "Best by validation accuracy: qv r=8 (alpha 16, lr 0.003): validation 0.9150, test 0.9150 (95 % interval "
        "0.8945 to 0.9355 over 4 seeds), 12,288 adapter parameters; qv (r=1) cannot be told apart from it on these "
        "data (difference on test -0.0013); shown to be worse: q (r=8) and k (r=1, 8), the best of these, q r=8, with "
        "difference -0.0145 (95 % interval -0.0166 to -0.0124 by itself, 4 seeds, corrected p < 0.001).",
        "Smallest rank that suffices: qv r=1 (alpha 16, lr 0.003), 1,536 adapter parameters: on test less than 0.01 "
        "worse than the best, difference -0.0013 (4 seeds, corrected p of a greater loss < 0.001); by target "
        "set: qv r=1, q none shown, k none shown.",
        "Head alone (targets none): validation 0.7152, test 0.7152 (95 % interval 0.6964 to 0.7341 over 4 seeds); "
        "on test against the best difference -0.1998 (95 % interval -0.2030 to -0.1965 by itself, 4 seeds, corrected "
        "p < 0.001).",
        "One learning rate for all cells (0.003): ranks may differ by how well it suits them.",
        "Scores are means over 4 seeds. Learning rates and the best cell were chosen on validation; differences on "
        "test are paired by seed, with t tests (the larger of a pair's own and the pooled variance) and Holm's "
        "correction: over all pairs of configurations for telling them apart, over all compared with the best for what "
        "suffices.",
    ]


def test_differences_have_the_sign_of_the_metric() -> None:
    losses = {("qv", 8): [0.50, 0.51, 0.52, 0.53], ("q", 8): [0.70, 0.71, 0.72, 0.74]}
    sentences = told(*over_seeds(losses, task__metric="loss"))
    assert "q (r=8)" in sentences[0] and "difference +0.2025 (95 % interval 0.1945 to 0.2105 by itself" in sentences[0]


def test_one_budget_says_nothing_of_ranks() -> None:
    pairs = over_seeds({("qv", 8): [0.90, 0.91], ("q", 16): [0.90, 0.92]}, lora__rank=None, lora__budget=73728)
    assert told(*pairs)[1].startswith("One budget for all: the rank follows from the target set")


def test_ties_are_called_ties() -> None:
    noisy = {("qv", r): [0.9 + 0.01 * ((r * s) % 5) for s in range(4)] for r in (1, 2, 3)}
    first, second = told(*over_seeds(noisy))[:2]
    assert "; none of the other 2 configurations can be told apart from it on these data (differences on test " in first
    assert second == "No smaller rank was tried." or second.startswith("No smaller rank is shown to be less")


def test_a_margin_that_nothing_smaller_keeps_is_said() -> None:
    second = told(*over_seeds(FOUR), within=0.0001)[1]
    assert second == (
        "No smaller rank is shown to be less than 0.0001 worse than it on test (Holm's correction); by target set: "
        "qv r=8 (the best itself), q none shown, k none shown."
    )


def test_test_scores_that_contradict_the_choice_are_told() -> None:
    tables = [
        *(make_record(make_spec("q", 1, seed=s), 0.9 + 0.001 * s, 0.8 - 0.001 * s) for s in range(5)),
        *(make_record(make_spec("v", 1, seed=s), 0.8 + 0.001 * s, 0.9 + 0.002 * s) for s in range(5)),
    ]
    sentences = told(*tables)
    assert sentences[0].startswith("Best by validation accuracy: q r=1 ")
    assert any(line.startswith("On test v r=1 is better than it: difference +0.1060 (") for line in sentences)


def test_cells_that_share_no_seeds_are_not_compared() -> None:
    apart = [make_record(make_spec("v", 1, seed=seed), 0.8) for seed in (7, 8)]
    first = told(*over_seeds({("q", 1): [0.9, 0.91], ("q", 2): [0.9, 0.904]}), *apart)[0]
    assert first.endswith("; not compared, for want of two shared seeds: v (r=1).")


def test_the_interval_over_examples_says_how_many() -> None:
    right = np.arange(1500) % 10 > 0
    table = study_table(make_record(make_spec(), 0.9, 0.9))
    kept = Examples({"prediction": right * 1.0, "target": np.ones(1500)})
    sentences = answer(find_all(table.tables, lambda record: kept, margin=0.01), table)
    assert "test 0.9000 (95 % interval 0.88" in sentences[0] and " over 1,500 test examples), " in sentences[0]


def test_a_cell_that_lost_a_seed_is_not_the_smallest_that_suffices() -> None:
    scores = {("qv", 1): [0.9, 0.9], ("qv", 4): [0.9, 0.9004, 0.9012, 0.902], ("qv", 64): [0.901, 0.901, 0.902, 0.903]}
    lost = make_record(make_spec("qv", 1, seed=2), status="diverged")
    assert told(*over_seeds(scores), lost)[1].startswith("Smallest rank that suffices: qv r=4 ")


def test_with_one_seed_a_cell_that_lost_others_is_not_the_smallest_near_the_best() -> None:
    records = [make_record(make_spec("qv", rank), 0.9) for rank in (1, 4)]
    records += [make_record(make_spec("qv", 1, seed=1), status="diverged"), make_record(make_spec("qv", 64), 0.905)]
    assert told(*records)[1].startswith("Smallest rank within 0.01 of it: qv r=4 ")


def test_learning_rates_tried_with_other_settings_do_not_widen_a_grid() -> None:
    with_dropout = {lr: make_spec("qv", 4, lora__dropout=0.1, optim__lr=lr) for lr in (0.001, 0.003)}
    without = make_record(make_spec("qv", 4, optim__lr=0.01), 0.4)
    sentences = told(without, *(make_record(spec, 0.5 + lr) for lr, spec in with_dropout.items()))
    assert "The best learning rate is the highest of those tried for qv r=4: widen the grid." in sentences
