"""Measure how far apart two runs are: arrays, updates of weights, and whole tensors over steps."""

from tracediff.drift.cells import QUANTILES as QUANTILES
from tracediff.drift.cells import SAMPLE as SAMPLE
from tracediff.drift.cells import Series as Series
from tracediff.drift.cells import sample_places as sample_places
from tracediff.drift.estimate import largest_possible as largest_possible
from tracediff.drift.growth import Course as Course
from tracediff.drift.growth import growth as growth
from tracediff.drift.least import least_distance as least_distance
from tracediff.drift.measure import Drift as Drift
from tracediff.drift.measure import measure as measure
from tracediff.drift.measure import squeezed as squeezed
from tracediff.drift.measure import squeezed_shape as squeezed_shape
from tracediff.drift.source import MOMENTS as MOMENTS
from tracediff.drift.source import Source as Source
from tracediff.drift.source import nbytes as nbytes
from tracediff.drift.together import together as together
from tracediff.drift.together import unmeasured as unmeasured
from tracediff.drift.track import Follower as Follower
from tracediff.drift.track import Track as Track
from tracediff.drift.track import follower as follower
from tracediff.drift.track import track_pair as track_pair
from tracediff.drift.ulp import narrower as narrower
from tracediff.drift.ulp import ulp_distance as ulp_distance
from tracediff.drift.updates import AMPLIFICATION as AMPLIFICATION
from tracediff.drift.updates import UpdateDrift as UpdateDrift
from tracediff.drift.updates import measure_update as measure_update
