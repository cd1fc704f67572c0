"""A workspace with an example of everything that the API shows."""

SHOP = """
secrets: {pw: canary-4711-secret}
actions:
  greet:
    type: script
    script: 'echo "$STROEM_INPUT_NAME"'
    input: {name: {type: string}}
  shout: {type: script, script: "true"}
tasks:
  main:
    name: Say hello
    description: Greets somebody
    folder: demo/hello
    input:
      name: {type: string, required: true, description: Whom, order: 1}
      times: {type: integer, default: 2, options: ["1", "2"]}
      password: {type: string, secret: true, default: "{{ secret.pw }}"}
    retry: {max_attempts: 3}
    flow:
      say: {action: greet, input: {name: "{{ input.name }}"}, retry: {max_attempts: 2, delay: 1s}}
      loud: {action: shout, depends_on: [say], when: "{{ input.times }}", continue_on_failure: true}
      also: {type: script, script: "true", depends_on: [say]}
triggers:
  nightly: {type: scheduler, cron: "0 0 * * *", task: main, input: {name: night}}
"""
