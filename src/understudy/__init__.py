"""Move a workload from a service LLM to a small local LLM, and prove that the move is safe."""

__version__ = "0.1.0"
