"""The screens: each lays out widgets, answers its keys, and asks the views for what to show."""
