"""A decision as decide writes it."""

DECIDED = {
    **{"decision": "MIGRATE", "reason": "local - service is +1.", "warnings": ["family"]},
    "holdout": None,
}
