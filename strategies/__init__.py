"""What the server does with a round's updates."""

assert __name__ == "fedmodel.strategies", "import fedmodel.strategies, not strategies"
