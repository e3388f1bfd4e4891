"""What draws: each knows strings and levels, and nothing of traces."""
