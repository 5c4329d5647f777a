"""Cryptographic Message Syntax (RFC 5652), as much of it as SCEP uses."""
