"""The run folder, its tables, its report, and the run as its user sees it."""
