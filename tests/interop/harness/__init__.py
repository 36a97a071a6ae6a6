"""Sidegate between real peers: what `run` starts inside its namespace."""
