"""A dry run of the public sizes without the public weights: random checkpoints, the real loaders, exports and servers.

folders.py    random weights in the public layout, by the recorded names and shapes
stages.py     what is done with them, one stage a process
__main__.py   the order of the stages, and their table
"""
