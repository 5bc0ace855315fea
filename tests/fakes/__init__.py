"""Stand-ins for what lies outside the orchestrator, with scripted timing and faults; no mock library."""
