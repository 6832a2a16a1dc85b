"""Experiments that ship with the project."""
