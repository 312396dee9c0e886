"""Commands that print the numbers the README quotes, ours and a peer's in one run."""
