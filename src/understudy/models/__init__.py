"""Load a local model and its tokenizer; devices and ranks."""
