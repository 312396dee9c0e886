"""Shared by tests: oracles, stand-ins for servers, untrained versions, requests."""
