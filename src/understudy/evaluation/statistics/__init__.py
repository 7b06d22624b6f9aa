"""Statistics of scores: intervals, agreement, bias, rankings, power."""
