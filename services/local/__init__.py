"""The whole system on this machine: its processes, started, watched and stopped together. A composition root.

settings.py  what the environment decides          processes.py one child process, from birth to a certain end
triton.py    a Triton server of the wheel          readiness.py an inference whose answer is checked
graph_host.py exports graphs before a room's server runs
system.py    all processes together                record.py    what runs, for `status` and `down`
__main__.py  the commands
"""
