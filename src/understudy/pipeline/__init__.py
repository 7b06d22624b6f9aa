"""Which stages a run consists of, and running them."""
