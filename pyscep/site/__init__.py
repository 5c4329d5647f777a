"""Endpoints as a whole application: what ``pyscep serve`` runs."""
