"""How many GPUs a number of conversations needs: a discrete-event simulation of the deployed pipeline.

`laws` says how long the rooms' passes take, `workload` what people and replies are like, `simulation` lets them meet,
`sizing` looks for the fewest servers that keep the objectives, `calibration` measures the laws of this machine's rooms,
and `comparison` holds the simulation against the real system.
"""
