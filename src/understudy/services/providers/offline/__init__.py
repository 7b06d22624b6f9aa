"""The offline provider: programs with exact rules that stand in for services."""
