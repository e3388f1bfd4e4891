"""The terminal interface: looks at two traces, or at one, from the whole run to one element.

Everything shown comes from the functions behind `tracediff compare`; nothing is decided here.
"""

from tracediff_tui.config import read_config as read_config
from tracediff_tui.launch import start as start
from tracediff_tui.launch import themes as themes
from tracediff_tui.options import Options as Options

__all__ = ["Options", "read_config", "start", "themes"]
