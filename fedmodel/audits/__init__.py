"""Audits: attack an experiment on purpose, and say what the attacker learns."""
