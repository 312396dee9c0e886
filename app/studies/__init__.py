"""Studies: experiments on cells, their records and their reports."""
