"""Interoperability with real peers."""
