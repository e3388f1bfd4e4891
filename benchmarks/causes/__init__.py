"""The bench of causes: labelled pairs of really recorded runs, and how many are explained right."""
