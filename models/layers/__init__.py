"""Layers and losses that are not recurrent cells: attention, decoder, CRF."""
