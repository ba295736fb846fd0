"""The main job, shown on one machine: from signed documents to encrypted packets."""
