from __future__ import annotations

import pytest

from src.experiment.display.meter import Meter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_estimated_before_anything_is_done(clock: Clock) -> None:
    meter = Meter(clock)
    meter.begin_study(8, skipped=0)
    meter.begin_pack(8, 100, 40, 0)
    clock.now += 5
    assert (meter.tokens_per_s, meter.pack_left_s, meter.study_left_s) == (None, None, None)


def test_rates_and_times_left(clock: Clock) -> None:
    """16 cells in packs of 8, of which one pack is at 25 of 100 steps after 10 s: 30 s for it, 70 s for both."""
    meter = Meter(clock)
    meter.begin_study(20, skipped=4)
    meter.begin_pack(8, 100, 40, 0)
    clock.now += 10
    for step in range(1, 26):
        meter.advance(step, tokens=400)
    assert meter.tokens_per_s == 1000
    assert meter.pack_left_s == pytest.approx(30)
    assert meter.study_left_s == pytest.approx(70)


def test_a_lane_that_ends_early_is_not_counted_twice(clock: Clock) -> None:
    meter = Meter(clock)
    meter.begin_study(8, skipped=0)
    meter.begin_pack(8, 100, 40, 0)
    clock.now += 50
    meter.advance(50, tokens=1)
    meter.ended += 1
    assert meter.study_left_s == pytest.approx(50)
    assert meter.done_cells == 1


def test_a_resumed_pack_is_timed_from_where_it_resumed(clock: Clock) -> None:
    meter = Meter(clock)
    meter.begin_pack(1, 100, 40, first_step=90)
    clock.now += 4
    meter.advance(92, tokens=1)
    assert meter.pack_left_s == pytest.approx(16)


@pytest.mark.parametrize(
    ("step", "epoch", "epoch_steps"),
    [
        (0, (1, 3), (0, 40)),
        (39, (1, 3), (39, 40)),
        (40, (2, 3), (0, 40)),
        (80, (3, 3), (0, 20)),
        (100, (3, 3), (20, 20)),
    ],
)
def test_epochs_and_a_last_one_that_is_cut_short(
    clock: Clock, step: int, epoch: tuple[int, int], epoch_steps: tuple[int, int]
) -> None:
    meter = Meter(clock)
    meter.begin_pack(1, 100, 40, first_step=step)
    assert (meter.epoch, meter.epoch_steps) == (epoch, epoch_steps)


def test_a_pack_with_nothing_to_train(clock: Clock) -> None:
    meter = Meter(clock)
    meter.begin_study(1, skipped=0)
    meter.begin_pack(1, 0, 40, 0)
    assert (meter.epoch, meter.epoch_steps, meter.pack_left_s, meter.study_left_s) == ((1, 1), (0, 0), None, None)


def test_a_cell_that_takes_a_free_place_makes_the_pack_longer(clock: Clock) -> None:
    """Two places, three cells: one ends after 40 of 100 steps, and the third takes 100 more from there."""
    meter = Meter(clock)
    meter.begin_study(3, skipped=0)
    meter.begin_pack(2, 100, 40, 0)
    clock.now += 40
    meter.advance(40, tokens=1)
    meter.ended += 1
    meter.join(140)
    assert (meter.lanes, meter.total_steps, meter.epoch) == (3, 140, (2, 4))
    assert meter.pack_left_s == pytest.approx(100)
    clock.now += 60
    meter.advance(100, tokens=1)
    meter.ended += 1
    assert meter.pack_left_s == pytest.approx(40)
    assert 25 < meter.study_left_s < 60


def test_the_last_pack_is_all_that_is_left_of_the_study(clock: Clock) -> None:
    meter = Meter(clock)
    meter.begin_study(4, skipped=2)
    clock.now += 300  # in which data were loaded
    meter.begin_pack(2, 100, 40, 0)
    clock.now += 10
    meter.advance(10, tokens=1)
    assert meter.study_left_s == meter.pack_left_s == pytest.approx(90)
