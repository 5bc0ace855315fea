"""Functions that the server runs: by HTTP endpoints and MCP servers of its operator's choice, and by no others."""
