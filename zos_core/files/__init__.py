"""The files that people write: strict reading, edits that keep comments, and their JSON Schemas."""
