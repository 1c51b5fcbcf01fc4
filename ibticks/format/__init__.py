"""Bytes only: the header, frames, v2 JSON, and columns from and to the wire."""
