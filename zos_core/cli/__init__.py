"""The `zos` command: one file per group, imported when its command runs."""
