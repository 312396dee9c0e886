"""Commands: they parse flags, make one call and print. `python -m app` lists them."""
