"""Commands that print the tables of the documentation, with a comparable library in each run."""
