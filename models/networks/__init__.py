"""Complete networks of each task shape, built from the layers and cells."""
