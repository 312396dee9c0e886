"""Text in core TensorFlow ops: words, tokens, subwords, and windows over long sentences."""
