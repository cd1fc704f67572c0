"""What each key of the YAML means, in the words of the reference; editors show them."""

from __future__ import annotations

from collections.abc import Mapping

TOP: Mapping[str, str] = {
    "actions": "by name: what a step can do",
    "tasks": "by name: flows",
    "secrets": "by name: values, nested as you like: Secrets",
    "on_success": "Hooks for tasks without hooks of their own",
    "on_error": "Hooks for tasks without hooks of their own",
    "on_cancel": "Hooks for tasks without hooks of their own",
    "on_suspended": "Hooks for tasks without hooks of their own",
    "connections": "named addresses with credentials, and their types",
    "connection_types": "named addresses with credentials, and their types",
    "triggers": "by name: what starts jobs without a person",
    "slurm_schedulers": "by name: how to request nodes from Slurm",
    "mcp_servers": "by name: servers whose tools agents may use",
    "exports": "what other workspaces may use",
    "libraries": "by name: libraries whose actions, tasks and connection types it uses",
    "access": "by pattern of folders and tasks: restricts rights to some people",
    "settings": (
        "unsafe_templates: warn or refuse; limits: of all agents of a job, and of a day; "
        "logs, artifacts: how long (retain) and how much (workspace_mb) of them is kept"
    ),
}
ACTION: Mapping[str, str] = {
    "type": "one of the six",
    "name": "display name",
    "description": "shown to people",
    "input": "fields: Inputs; without effect on task, as the called task declares them",
    "output": "of an agent: fields of its answer; on other types, documentation",
    "script": "code",
    "source": "path of a file in the workspace",
    "runner": "local (default), docker, pod",
    "language": "shell (default), python, javascript, typescript, go",
    "dependencies": "packages to install first; not for shell",
    "interpreter": "program to use instead of the usual one",
    "args": "arguments; each a template",
    "workspace": "in containers: readonly (default) or copy",
    "umask": (
        "octal digits such as 0027 for the files that the step makes; without it the "
        "worker's umask, or that of the image"
    ),
    "image": "image to run",
    "cmd": "shell command; with entrypoint: its arguments",
    "entrypoint": "list; replaces the image's entrypoint",
    "command": "list of arguments; takes precedence over cmd",
    "manifest": "merged into the pod",
    "shm_size": "in containers: the size of /dev/shm, such as 1Gi",
    "user": ('in containers: who runs the step, "1000:1000"; a name works with Docker only'),
    "platform": "in containers: which variant of the image, such as linux/arm64",
    "pull": "in containers: missing, always or never, instead of the worker's setting",
    "volumes": (
        "in containers: volumes that the operator has named, by name: path, or path with :ro"
    ),
    "tags": "what a worker must offer",
    "env": "environment variables; values are templates",
    "workdir": (
        "working directory: of a script below the workspace, or in containers also an absolute"
        " path, as always for an image"
    ),
    "resources": (
        "cpu, memory: limits of containers and pods; memory, num_cpus, num_gpus, num_nodes, "
        "runtime: what workers on Slurm nodes pack by"
    ),
    "on_worker_lost": "fail (default) or retry",
    "timeout": "for each attempt: at most 24h, of an approval 30d",
    "retry": "Failure; without effect on task and approval, which a warning says",
    "task": "name of a task in this workspace",
    "provider": "name under agents.providers in the configuration",
    "model": "which model, instead of the provider's",
    "system_prompt": "template",
    "prompt": "template",
    "temperature": "0 to 2",
    "max_tokens": "of an answer; a longer one is a failure",
    "max_turns": "answers of one conversation: 1 to 100, 25 without it",
    "interactive": "gives the model a tool that asks people",
    "tools": (
        "list of {task: NAME} or {mcp: NAME, only: [TOOL]}, each with approval (never, always or "
        "{when: TEMPLATE}) and idempotent: tools"
    ),
    "limits": "turns, tokens, cost, tool_calls, time, and at_limit: limits",
    "ask_timeout": "how long people may take: at most 30d",
    "message": "Markdown; a template",
    "approvers": "users, groups",
    "min_approvals": "how many people must approve",
    "separation": "excludes whoever started the job",
    "reminders": "list of durations",
    "escalation": "after, users, groups",
}
STEP: Mapping[str, str] = {
    "action": "name of an action",
    "name": "shown to people",
    "description": "shown to people",
    "depends_on": "steps that must have ended first",
    "input": "values; templates. A value that is a single expression keeps its type",
    "when": "run only if this is true",
    "for_each": "a list, or a template that returns one: Loops",
    "sequential": "run a loop's steps one at a time",
    "max_parallel": "how many of a loop's steps may run at a time: Limits",
    "continue_on_failure": "Continue on failure",
    "timeout": "replace the action's",
    "retry": "replace the action's",
    "on_worker_lost": "replace the action's",
    "umask": "replaces the action's, which must be a script",
    "tags": "added to the action's",
    "scheduler": "only nodes of this Slurm scheduler may run it",
    "priority": "-1000 to 1000; higher runs first",
    "artifacts": (
        "paths, retain, on_failure: files it leaves; from: steps whose files it takes: Artifacts"
    ),
}
ARTIFACTS: Mapping[str, str] = {
    "paths": "globs below the working directory, beside all that is in $ARTIFACTS_DIR",
    "retain": "how long they are kept; without it, as long as the job: at most 10 years",
    "on_failure": "true: they are also stored when the step failed",
    "from": "steps before it, whose files it finds in $ARTIFACTS_IN/STEP",
}
TASK: Mapping[str, str] = {
    "name": "shown to people",
    "description": "shown to people",
    "folder": "where the task is listed: a/b",
    "mode": "distributed; local is accepted without effect, with a warning",
    "input": "fields",
    "flow": "steps by name",
    "timeout": "for the whole job; after it, the job has failed",
    "retry": "a new job if this one failed; a step that called the task waits for it",
    "manual": "false: nobody starts it by hand; triggers, hooks and other tasks do",
    "on_success": "hooks; an empty list has no effect",
    "on_error": "hooks; an empty list has no effect",
    "on_cancel": "hooks; an empty list has no effect",
    "on_suspended": "hooks; an empty list has no effect",
    "priority": "of its jobs",
    "limits": "turns, tokens, cost and tool_calls of all agents of one job, daily: limits",
    "max_concurrent_jobs": "how many of its jobs may run at once: Limits",
    "mcp": "true offers the task to agents as a tool of its own: Stroem as a tool",
    "state": "how its jobs remember: State; on_conflict: fail (default), last_wins or serialize",
    "access": "restricts rights on the task and its jobs to some people: Access",
    "workflow_actions": "what events in a job's life set off",
    "slurm_schedulers": "what events in a job's life set off",
}
TRIGGER: Mapping[str, str] = {
    "type": "one of the four",
    "task": "the task to start; of an event source, the one that prints the events",
    "enabled": "false: it does not fire",
    "input": (
        "values for the task; templates. Of an event source: defaults for target_task, "
        "beneath each event"
    ),
    "idempotency_key": "template; the same text within the window starts no second job",
    "idempotency_window": "how long; 24h, at most 720h",
    "concurrency": (
        "while a job of the trigger is open: allow (default), skip, cancel_previous, queue"
    ),
    "debounce": "start once nothing has fired for this long; at most 24h",
    "force_refresh": "read the workspace again before the job starts",
    "cron": "five fields, six with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly",
    "timezone": "IANA name; UTC",
    "catch_up": "after an outage: none, last (default), all",
    "catch_up_window": "how old a run may be that is caught up; 24h, at most 720h",
    "jitter": "shifts the trigger by a share of this that is always the same; at most 1h",
    "on_job": (
        "task, status: completed (default), failed, cancelled, or a list, and workspace if it is "
        "another one's task: Exports"
    ),
    "name": "the last part of its address",
    "verify": (
        "how a sender proves itself: bearer (default), github, gitlab, stripe, standard, "
        "none: Webhooks"
    ),
    "secret": "what the sender must know; usually a template that reads secret",
    "secret_in_query": "true: with verify: bearer, ?secret= is taken too",
    "allow_get": "true: GET starts a job, not only POST",
    "filter": "template over the request; what is false starts nothing",
    "mode": "async (default) answers at once, sync with the job's end",
    "timeout_secs": "how long sync waits: 1 to 300, 30 if left out",
    "target_task": "the task that each event starts",
    "env": "more variables for the steps of its consumer; templates that read secret",
    "restart_policy": (
        "when a consumer that ended is followed by another: always (default), on_failure, never"
    ),
    "backoff_secs": "the wait after a failure, which doubles with each one in a row up to 300; 5",
    "max_in_flight": "how many jobs of its events may be open; beyond, the next event waits",
}
