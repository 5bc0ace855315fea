"""Step-Audio as a real-time system: one package per room, and the ground floor they all stand on."""
