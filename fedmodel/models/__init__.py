"""Ordinary modules, and how an experiment makes one."""
