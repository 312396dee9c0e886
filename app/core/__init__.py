"""What several commands and engines share: files, the console, flags of several commands."""
