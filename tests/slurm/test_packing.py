"""Steps are packed into what an allocation has: processors, memory, GPUs, nodes, time."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs.models import Step
from tests.apps.jobs.builders import start
from tests.chaos.witness import Run, Witness
from tests.slurm.site import Site, end_of, error_of, until_ended, workers_of

pytestmark = pytest.mark.django_db(transaction=True)


def overlap(one: Run, other: Run) -> bool:
    assert one.end is not None and other.end is not None
    return one.start < other.end and other.start < one.end


def test_steps_share_what_an_allocation_has_and_nobody_gets_more(
    site: Site, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "witness")
    folder = witness.folder
    script = witness.script(1.5).replace("\n", "\n              ")
    found = site.workspace(
        f"""
        actions:
          gpu:
            type: script
            resources: {{num_cpus: 1, num_gpus: 1}}
            script: |
              echo "$CUDA_VISIBLE_DEVICES" > {folder}/gpu-$STROEM_STEP_NAME
              {script}
          cpus: &work
            type: script
            resources: {{num_cpus: 3}}
            script: |
              {script}
          memory: {{<<: *work, resources: {{memory: 1200M}}}}
          wide: {{<<: *work, resources: {{num_cpus: 8}}}}
          fat: {{<<: *work, resources: {{memory: 64Gi}}}}
          long: {{<<: *work, resources: {{runtime: 3h}}}}
          split: {{<<: *work, resources: {{num_nodes: 2}}}}
        tasks:
          main:
            flow:
              gpu_1: {{action: gpu}}
              gpu_2: {{action: gpu}}
              gpu_3: {{action: gpu}}
              cpus_1: {{action: cpus}}
              cpus_2: {{action: cpus}}
              memory_1: {{action: memory}}
              memory_2: {{action: memory}}
              wide: {{action: wide}}
              fat: {{action: fat}}
              long: {{action: long}}
              split: {{action: split}}
            workflow_actions:
              - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: SCHED,
                 scheduler_type: slurm}}
        """.replace(": {action: ", ": {scheduler: SCHED, action: "),
        gres="gpu:2",
        mem="2000",
        extra="--exclusive",
    )
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "failed"
    runs = {step: found[0] for step, found in witness.runs().items()}
    done = set(
        Step.objects.filter(job_id=job.id, status="completed").values_list("name", flat=True)
    )
    assert done == {"gpu_1", "gpu_2", "gpu_3", "cpus_1", "cpus_2", "memory_1", "memory_2"}, (
        site.explain(job)
    )
    gpus = [runs[f"gpu_{number}"] for number in (1, 2, 3)]
    devices = [(folder / f"gpu-gpu_{number}").read_text().strip() for number in (1, 2, 3)]
    assert set(devices) == {"0", "1"}
    pairs = [(a, b) for a in range(3) for b in range(a) if overlap(gpus[a], gpus[b])]
    assert pairs and all(devices[a] != devices[b] for a, b in pairs)
    assert not overlap(runs["cpus_1"], runs["cpus_2"])
    assert not overlap(runs["memory_1"], runs["memory_2"])
    says = "The step asks for {}, and no worker or allocation that may run it offers more than {}"
    assert error_of(job, "wide") == says.format("8 processors", "4 processors")
    assert error_of(job, "fat") == says.format("64 GiB of memory", "1.953 GiB of memory")
    assert error_of(job, "split") == says.format("2 nodes", "1 node")
    assert error_of(job, "long").startswith(says.format("03:00:00 of time", "00:0"))
    assert [row.status for row in until_ended(site, job)] == ["complete"]


def test_a_worker_a_node_or_one_step_for_several_nodes(site: Site, tmp_path: Path) -> None:
    found = site.workspace(
        f"""
        actions:
          each:
            type: script
            resources: {{num_cpus: 3}}
            script: |
              echo $SLURMD_NODENAME > {tmp_path}/on-$STROEM_STEP_NAME
              until [ $(ls {tmp_path}/on-* | wc -l) = 2 ]; do sleep 0.1; done
          all:
            type: script
            resources: {{num_nodes: 2}}
            script: srun --overlap --nodes=2 --ntasks-per-node=1 sh -c 'touch {tmp_path}/all-$SLURMD_NODENAME'
        tasks:
          each:
            flow: {{a: {{action: each}}, b: {{action: each}}}}
            workflow_actions:
              - {{trigger_type: on_jobs_ready, jobs: [a, b], action_type: schedule_nodes, scheduler: SCHED,
                 scheduler_type: slurm, start_one_worker_per_node: true}}
          all:
            flow: {{a: {{action: all}}}}
            workflow_actions:
              - {{trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
                 scheduler_type: slurm}}
        """,
        nodes=2,
        ntasks_per_node=3,
    )
    site.scheduler()
    site.submitter()
    each, every = start(found, "each"), start(found, "all")
    assert end_of(site, each).status == "completed", site.explain(each)
    assert end_of(site, every).status == "completed", site.explain(every)
    [row] = until_ended(site, each)
    assert set(workers_of(each).values()) == {f"slurm-{row.slurm_job_id}-{node}" for node in (0, 1)}
    assert len({(tmp_path / f"on-{step}").read_text() for step in "ab"}) == 2
    assert len(list(tmp_path.glob("all-n*"))) == 2
