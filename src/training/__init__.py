"""Training a pack of lanes: the only training path; a solo run is a pack of one."""

from src.training.lane import Evaluation, Lane, LaneStatus
from src.training.loop import Observer, train_pack

__all__ = ["Evaluation", "Lane", "LaneStatus", "Observer", "train_pack"]
