"""Published or well-known figures, and what this project gives on the same data."""
