"""A lab that lives on: a process that owns it, keeps its journal and answers on a socket.

The command line only asks. What is asked and answered is in specs/062-lab-supervisor.md.
"""
