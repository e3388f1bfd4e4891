"""What an examination consists of and is measured with, in one place for views; adds nothing."""

from tracediff.align import recorded_step
from tracediff.compare._lockstep import replay_of
from tracediff.diagnose import Case
from tracediff.drift import Drift, Series, Track, measure, squeezed, ulp_distance
from tracediff.names import model_layers, optimizer_settings, same_setting
from tracediff.onset import Judged, Place, stage_of

__all__ = [
    "Case",
    "Drift",
    "Judged",
    "Place",
    "Series",
    "Track",
    "measure",
    "model_layers",
    "optimizer_settings",
    "recorded_step",
    "replay_of",
    "same_setting",
    "squeezed",
    "stage_of",
    "ulp_distance",
]
