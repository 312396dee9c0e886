"""What tasks of one form share: N→1, N→N, 1→N and N→M."""
