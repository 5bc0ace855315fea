"""The ground floor: what more than one room needs. It imports no room."""
