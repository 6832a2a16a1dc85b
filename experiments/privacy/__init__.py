"""What privacy costs and what it buys, measured side by side."""
