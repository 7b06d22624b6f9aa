"""From answers to a decision: verdicts, scores with their intervals, and the gate."""
