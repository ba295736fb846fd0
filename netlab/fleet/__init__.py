"""The shipped `zos` in a lab: a registry, nodes, the people who use them, and their workloads.

`fleet` runs the installed command in lab nodes; `opening` brings up all that a topology says;
`node_socket` asks a node what `zos status` asks; `greeter` answers for workloads. Nothing here
knows more of zos than its users can.
"""
