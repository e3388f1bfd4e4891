"""Runs a model on what another run recorded: its initial state, its batches, or its every state."""

from tracediff_hooks.replay.options import Replay
from tracediff_hooks.replay.refused import ReplayRefused

__all__ = ["Replay", "ReplayRefused"]
