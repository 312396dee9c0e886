"""Serving: export, checks, sessions, requests and clients of published versions."""
