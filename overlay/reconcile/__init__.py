"""The node's loop: documents in, network resources out, and every repair on record.

Shell: it carries between the registry, the disk and the kernel, and decides nothing that
`peers`, `documents` and `netns` could decide. A document goes through it in this order:

`feed`         the registry's stream brings it
`following`    takes it from there in batches
`intake`       verifies it, refuses what is older than what was seen, keeps it on disk
`acceptance`   waits until it is there, and only then lets the loop of its network know
`networks`     which networks are ours, their loops and ports
`membership`   whether this node acts on the network, and what it says of itself there (pure)
`goals`        which peers follow from all documents of the network
`draining`     the way out, and the exit before it that drains (pure)
`resource`     what is wanted of the network resource; `wanted` is how the next ones see it (pure)
`passes`       over it, until the kernel holds what the documents say
`looking`      looks at its devices in between, for paths that work and paths that do not
`peering`      writes to peers, greets them, puts them anew, asks them
`record`       how the passes went and what they changed
`results`      how they went, for the tenant
`publisher`    our own documents on their way to the registry

`node` puts all that together and keeps it running.

Beside that way: `restoring` at a start, `links` of our own that change, `joining` by token,
`rotating` of device keys, `workloads` that are attached, `preview` of a document that is not signed
yet. What they stand on: `machine`, `keyring`, `settings`, `surroundings`, `backoff`, and the
`journal` of what was refused or repaired.
"""
