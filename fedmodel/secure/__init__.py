"""Secure aggregation: the server learns the sum of the clients' updates, and no single one."""

from __future__ import annotations

from fedmodel.secure.client import SecureClient
from fedmodel.secure.encoding import Encoding, Total
from fedmodel.secure.graph import neighbours_needed
from fedmodel.secure.keys import Refusal
from fedmodel.secure.server import SecureServer

__all__ = ["Encoding", "Refusal", "SecureClient", "SecureServer", "Total", "neighbours_needed"]
