"""Signed documents: strict parsing, envelopes, and who may say what."""
