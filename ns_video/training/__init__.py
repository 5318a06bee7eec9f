"""Making models: degraded pictures, losses, the trainer and the evaluation. Floor 4."""
