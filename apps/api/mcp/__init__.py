"""The platform as a tool for agents: an MCP server at /mcp, where the settings enable it.

Belongs here: the door (`door`: who may knock), the tools (`tools`: what they do, `tasks`: a tool
for each task that says `mcp: true`). Does not belong here: rights (see `apps.api.scope`, which
every tool asks) and agent steps. Only `door` imports the package `mcp`, once a request comes.
"""
