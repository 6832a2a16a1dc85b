"""What the command line shows. It reads, and never computes."""
