"""Held against what TensorFlow Serving asks, by what stands in for its parts."""
