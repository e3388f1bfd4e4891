"""What the screens show, as plain values made from a comparison; no widgets, nothing decided."""
