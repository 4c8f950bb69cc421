"""Torch modules from edge vectors to energies."""
