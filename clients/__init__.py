"""Client behaviours, and what dishonest clients do."""

assert __name__ == "fedmodel.clients", "import fedmodel.clients, not clients"
