"""Sidegate beside other programs that do the same work, on one machine, in turns."""
