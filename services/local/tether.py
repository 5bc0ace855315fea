"""Ties a process to its parent, then becomes the command: `python tether.py PARENT COMMAND …`.

The kernel sends SIGKILL when the parent dies, however that happens. This is a program of its own because the
alternative, Python code between fork and exec, may deadlock in a parent with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # it died before the tie held
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])
