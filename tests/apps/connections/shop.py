"""A workspace with a type of connection, its check, and what uses it."""

SHOP = """
secrets: {pw: file-canary-4711}
connection_types:
  db:
    check: ping
    host: {type: string, required: true, description: Name or address}
    port: {type: integer, default: 5432}
    mode: {type: string, options: [require, disable]}
    password: {type: string, secret: true, required: true}
    key: {type: text, secret: true, default: default-canary-4711}
connections:
  main: {type: db, host: files.internal, password: "{{ secret.pw }}"}
  loose: {anything: goes}
actions:
  ping:
    type: script
    input: {to: {type: db, required: true}}
    env: {PLACE: "{{ input.to.host }}:{{ input.to.port }}"}
    script: echo "$PLACE"
tasks:
  load:
    input: {target: {type: db, default: main}}
    flow: {a: {action: ping, input: {to: main}}}
"""
GIVEN = {"host": "stored.internal", "password": "stored-canary-0815"}
CANARY = "canary"
