"""Fine-tuning of the local model: data, trainer, checkpoints, Accelerate and DeepSpeed."""
