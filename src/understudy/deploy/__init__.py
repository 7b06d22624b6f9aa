"""The way out of the house: a run's model as files that others can serve."""
