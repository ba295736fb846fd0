"""The node's loop: documents in, network resources out, and every repair on record.

Shell: it carries between the registry, the disk and the kernel, and decides nothing that
`peers`, `documents` and `netns` could decide.
"""
