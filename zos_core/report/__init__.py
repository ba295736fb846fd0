"""The node's state as the types of `status`: what people and commands are told.

Read `status` first, then what it is made of: `networks`, their `peers` and `refusals`, and the
`health` that follows from all of it. `why` adds what `zos why` walks.
"""
