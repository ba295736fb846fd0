"""The registry: a directory of signed documents that stores and forwards, and can forge nothing."""
