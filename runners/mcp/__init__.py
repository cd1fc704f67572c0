"""Uses tools of MCP servers: programs, containers and addresses that speak the Model Context
Protocol. What they say is data.

The official library takes a second to import: modules that name it are imported with the first
server.
"""
