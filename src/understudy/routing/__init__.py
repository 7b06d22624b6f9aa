"""Which LLM answers which query: exact fronts, the published search, predictors, guarantees."""
