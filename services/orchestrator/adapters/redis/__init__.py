"""Sessions and voices in Redis, or a server of its protocol: alone, under Sentinel, or as a Cluster.

connect.py   one URL, a bounded pool, faults by type        keys.py      names, and which keys share a slot
schema.py    values as strict JSON                          lifetime.py  what a session is at a moment
sessions.py  the port `SessionStore`                        voices.py    the port `VoiceStore`
scripts.py   what changes a session or a voice, each atomic

Whoever runs the server decides how much a crash of the machine may cost: `appendonly yes` with `appendfsync everysec`
keeps everything when the process dies and loses a second at most when the machine does; `always`, or replicas with
`min-replicas-to-write 1`, close that. `maxmemory-policy` has to be `noeviction`.
"""
