"""`zos lab`: commands that start labs, and ask and change those that live.

To add a command: a file with a `command(...)` of zos_core.cli.command, and a line in lab.COMMANDS.
Its file asks the lab through netlab.supervisor.asking, at the place that which.choose finds; what
it asks is a route (netlab/supervisor/serve.py, ROUTES) over a method of the Session. Errors are
raised; which.lab_option and complete.* give it --lab and live names; output.show does --json.
"""
