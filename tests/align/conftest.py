"""What pytest is not to collect here."""

# They run in the training environments; collecting them for doctests would import frameworks.
collect_ignore = ["programs"]
