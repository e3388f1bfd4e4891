"""What an examination consists of and is measured with, in one place for views; adds nothing."""

from tracediff.diagnose import Case as Case
from tracediff.drift import Drift as Drift
from tracediff.drift import Series as Series
from tracediff.drift import Track as Track
from tracediff.drift import measure as measure
from tracediff.drift import squeezed as squeezed
from tracediff.drift import ulp_distance as ulp_distance
from tracediff.names import model_layers as model_layers
from tracediff.names import optimizer_settings as optimizer_settings
from tracediff.names import same_setting as same_setting
from tracediff.onset import Judged as Judged
from tracediff.onset import Place as Place
from tracediff.onset import stage_of as stage_of
