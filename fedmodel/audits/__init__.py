"""Audits: attacks on an experiment's privacy, to hold beside what it claims."""
