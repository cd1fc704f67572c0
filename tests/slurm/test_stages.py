"""Nodes are asked for when steps need them, and run exactly those."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from tests.apps.jobs import builders
from tests.apps.jobs.builders import start, statuses, until
from tests.slurm.site import Site, allocations, end_of, states, until_ended, workers_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_allocations_run_the_steps_that_were_selected_and_no_others(site: Site) -> None:
    #   prepare --> train_1 .. train_4 (on nodes) --> report
    found = site.workspace("""
        actions:
          here: {type: script, script: "true"}
          train: {type: script, script: "echo $SLURM_JOB_ID; sleep 1"}
        tasks:
          main:
            flow:
              prepare: {action: here}
              train_1: {action: train, depends_on: [prepare]}
              train_2: {action: train, depends_on: [prepare]}
              train_3: {action: train, depends_on: [prepare]}
              train_4: {action: train, depends_on: [prepare]}
              report: {action: here, depends_on: [train_1, train_2, train_3, train_4]}
            workflow_actions:
              - trigger_type: on_jobs_ready
                action_type: schedule_nodes
                jobs: [train_1]
                job_name_regexes: ["train_[2-4]"]
                scheduler: SCHED
                scheduler_type: slurm
                num_allocations: 2
                max_parallel_jobs: 1
        """)
    site.scheduler()
    site.worker("plain", "script")
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "completed", site.explain(job)
    rows = until_ended(site, job)
    numbers = [row.slurm_job_id for row in rows]
    ran = workers_of(job)
    assert {ran["prepare"], ran["report"]} == {"plain"}
    assert {ran[f"train_{number}"] for number in range(1, 5)} == {
        f"slurm-{number}-0" for number in numbers
    }
    assert [row.status for row in rows] == ["complete", "complete"]
    assert sorted(site.slurm_jobs()) == sorted((number, "COMPLETED") for number in numbers)
    assert all(row.submitted_at <= row.started_at <= row.ended_at and row.nodes for row in rows)
    for row in rows:  # the snapshot is what Slurm was given, and no credential is in it
        assert (
            site.cluster.run("scontrol", "write", "batch_script", row.slurm_job_id, "-")
            == row.script.strip()
        )
        secrets = (
            site.env["STROEM__DB__URL"],
            site.env["STROEM__BROKER__URL"],
            settings.SECRET_KEY,
        )
        assert not any(secret in row.script for secret in secrets)


SPECIFICATION = """
name: three_stages
parameters: {i: "1:2"}
resource_requirements:
  - {name: small, num_cpus: 1, memory: 500m, runtime: PT1M}
  - {name: large, num_cpus: 2, memory: 1g, num_gpus: 1, runtime: PT2M}
jobs:
  - name: preprocess_{i}
    command: echo "preprocess_{i} $SLURM_JOB_ID" >> WITNESS; until [ -e GATE/preprocess_{i} ]; do sleep 0.1; done
    resource_requirements: small
    scheduler: SCHED-small
    use_parameters: [i]
  - name: train_{i}
    command: echo "train_{i} $SLURM_JOB_ID $CUDA_VISIBLE_DEVICES" >> WITNESS; until [ -e GATE/train ]; do sleep 0.2;done
    depends_on_regexes: ["preprocess_.*"]
    resource_requirements: large
    scheduler: SCHED-large
    use_parameters: [i]
  - name: report
    command: echo "report $SLURM_JOB_ID" >> WITNESS; until [ -e GATE/report ]; do sleep 0.1; done
    depends_on_regexes: ["train_.*"]
    resource_requirements: small
    scheduler: SCHED-small
slurm_schedulers:
  - {name: SCHED-small, account: lab, nodes: 1, mem: 2g, walltime: "00:05:00", extra: --ntasks=2}
  - {name: SCHED-large, account: lab, nodes: 1, mem: 2g, gres: "gpu:2", walltime: "00:10:00", extra: --ntasks=4}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: SCHED-small, scheduler_type: slurm}
  - {trigger_type: on_jobs_ready, job_name_regexes: ["train_[0-9]+"], action_type: schedule_nodes,
     scheduler: SCHED-large, scheduler_type: slurm, num_allocations: 1}
  - {trigger_type: on_jobs_ready, jobs: [report], action_type: schedule_nodes, scheduler: SCHED-small,
     scheduler_type: slurm, num_allocations: 1, max_parallel_jobs: 1}
  - {trigger_type: on_worker_start, action_type: run_commands, persistent: true,
     commands: ['echo "worker $SLURM_JOB_ID" >> WITNESS']}
"""


def test_a_torc_file_of_three_stages_asks_for_nodes_stage_by_stage(
    site: Site, tmp_path: Path
) -> None:
    gate, witness = tmp_path / "gate", tmp_path / "witness"
    gate.mkdir()
    text = SPECIFICATION.replace("SCHED", site.scheduler_name).replace("GATE", str(gate))
    found = builders.workspace(tmp_path, text.replace("WITNESS", str(witness)))
    site.scheduler()
    site.submitter(slurm_worker_config=str(site.worker_config))  # the file itself names none
    job = start(found, "three_stages")

    def asked() -> list[tuple[str, str]]:
        return [(row.scheduler.rpartition("-")[2], row.status) for row in allocations(job)]

    until(lambda: asked() == [("small", "active")], within_s=60)
    (gate / "preprocess_1").touch()
    until(lambda: statuses(job)["preprocess_1"] == "completed", within_s=60)
    assert asked() == [("small", "active")]  # one of two is not enough
    (gate / "preprocess_2").touch()
    # Nobody keeps the small nodes for the report: it gets others.
    until(lambda: asked() == [("small", "complete"), ("large", "active")], within_s=60)
    (gate / "train").touch()
    until(
        lambda: asked() == [("small", "complete"), ("large", "complete"), ("small", "active")],
        within_s=60,
    )
    (gate / "report").touch()
    assert end_of(site, job).status == "completed", site.explain(job)
    first, second, third = (row.slurm_job_id for row in until_ended(site, job))
    lines = sorted(witness.read_text().splitlines())
    trained = [line.split() for line in lines if line.startswith("train")]
    assert sorted(lines) == sorted([
        f"preprocess_1 {first}", f"preprocess_2 {first}", *(" ".join(words) for words in trained), f"report {third}",
        f"worker {first}", f"worker {second}", f"worker {third}",
    ])  # fmt: skip
    assert [words[:2] for words in trained] == [["train_1", second], ["train_2", second]]
    assert {words[2] for words in trained} == {"0", "1"}
    assert states(job) == ["complete"] * 3


def test_the_next_stage_is_asked_for_when_no_allocation_is_left(site: Site) -> None:
    #   fit (nodes) --> check (no worker for it yet) --> plot (nodes)
    found = site.workspace("""
        actions:
          do: {type: script, script: "true"}
        tasks:
          main:
            flow:
              fit: {action: do}
              check: {action: do, depends_on: [fit], tags: [late]}
              plot: {action: do, depends_on: [check]}
            workflow_actions:
              - {name: first, trigger_type: on_jobs_ready, jobs: [fit], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 1}
              - {name: second, trigger_type: on_jobs_ready, jobs: [plot], action_type: schedule_nodes,
                 scheduler: SCHED, scheduler_type: slurm, max_parallel_jobs: 1}
        """)
    site.env["STROEM__RECOVERY__UNMATCHED_STEP_TIMEOUT_SECS"] = "60"
    site.scheduler()
    site.submitter()
    job = start(found)
    # Its worker does not stay for `plot`: nodes of their own will come for that.
    until(lambda: states(job) == ["complete"], within_s=60)
    site.worker("late", "script", "late")
    assert end_of(site, job).status == "completed", site.explain(job)
    assert [row.status for row in until_ended(site, job)] == ["complete", "complete"]
    ran, rows = workers_of(job), allocations(job)
    assert [ran["fit"], ran["check"], ran["plot"]] == [
        f"slurm-{rows[0].slurm_job_id}-0", "late", f"slurm-{rows[1].slurm_job_id}-0",
    ]  # fmt: skip
