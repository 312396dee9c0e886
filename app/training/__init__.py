"""Training: from streams of examples to fitted weights, resumable and distributed."""
