"""Views of results: each module here turns one frozen dataclass into text, JSON or markdown."""
