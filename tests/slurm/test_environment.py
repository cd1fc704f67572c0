"""What steps and workflow actions find on a node: the allocation's environment, srun, one output
directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs.models import Attempt, StepEvent
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.snapshots import runs_of
from tests.apps.jobs.builders import start, until
from tests.slurm.site import Site, allocations, end_of, until_ended, workers_of

pytestmark = pytest.mark.django_db(transaction=True)

SEEN = """
actions:
  look: {type: script, script: 'env > FOLDER/step; module load gcc > FOLDER/module'}
tasks:
  main:
    flow: {a: {action: look}}
    workflow_actions:
      - {trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
         scheduler_type: slurm, start_one_worker_per_node: PER_NODE}
      - {name: tell, trigger_type: on_jobs_complete, jobs: [a], action_type: run_commands,
         commands: ['env > FOLDER/action', 'echo of the action > here']}
"""
SET_UP = """
export OMP_NUM_THREADS=3
module() { echo "module $*"; }
export -f module
"""


def env_of(file: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in file.read_text().splitlines() if "=" in line)


@pytest.mark.parametrize("per_node", ["false", "true"])
def test_steps_and_actions_see_the_allocation_and_no_credentials(
    site: Site, tmp_path: Path, per_node: str
) -> None:
    text = SEEN.replace("FOLDER", str(tmp_path)).replace("PER_NODE", per_node)
    found = site.workspace(text, setup=SET_UP, extra="--export=ALL,MYVAR=hello,HUB_TOKEN=x")
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "completed", site.explain(job)
    until_ended(site, job)
    until(lambda: JobAction.objects.get(job_id=job.id, name="tell").status == "succeeded")
    step, action = env_of(tmp_path / "step"), env_of(tmp_path / "action")
    for seen in (step, action):
        assert (seen["OMP_NUM_THREADS"], seen["MYVAR"]) == ("3", "hello")
        assert seen["SLURM_JOB_ID"] == allocations(job)[0].slurm_job_id
        assert seen["SLURM_NNODES"] == "1"
        hidden = [name for name in seen if name.startswith("STROEM__") or name == "STROEM_CONFIG"]
        assert hidden == []
        assert not any(site.env["STROEM__DB__URL"] in value for value in seen.values())
    assert "HUB_TOKEN" not in step.keys() | action.keys()
    assert (tmp_path / "module").read_text() == "module load gcc\n"


def test_a_setup_that_fails_starts_no_worker_and_its_log_says_where(
    site: Site, tmp_path: Path
) -> None:
    text = SEEN.replace("FOLDER", str(tmp_path)).replace("PER_NODE", "false")
    found = site.workspace(text, setup="module_of_nobody load gcc\ntrue\n")
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "failed"
    (row,) = until_ended(site, job)
    assert (row.status, row.error) == ("failed", "Slurm says FAILED: NonZeroExitCode")
    (log,) = (site.folder / "output").rglob("slurm-*.log")
    assert f"the setup of Slurm scheduler {site.scheduler_name} failed (127)" in log.read_text()


def test_srun_in_a_step_runs_on_the_workers_own_node(site: Site, tmp_path: Path) -> None:
    found = site.workspace(
        f"""
        actions:
          each:
            type: script
            resources: {{num_cpus: 3}}
            script: |
              touch {tmp_path}/begun-$STROEM_STEP_NAME
              until [ $(ls {tmp_path}/begun-* | wc -l) = 2 ]; do sleep 0.1; done
              srun --ntasks=2 sh -c 'echo $SLURMD_NODENAME' > {tmp_path}/srun-$STROEM_STEP_NAME
              srun sh -c 'echo $SLURMD_NODENAME' > {tmp_path}/all-$STROEM_STEP_NAME
              echo "$SLURMD_NODENAME $SLURM_NNODES $SLURM_NODELIST" > {tmp_path}/on-$STROEM_STEP_NAME
        tasks:
          main:
            flow: {{a: {{action: each}}, b: {{action: each}}}}
            workflow_actions:
              - {{trigger_type: on_jobs_ready, jobs: [a, b], action_type: schedule_nodes, scheduler: SCHED,
                 scheduler_type: slurm, start_one_worker_per_node: true}}
        """,
        nodes=2,
        ntasks_per_node=3,
    )
    site.scheduler()
    site.submitter()
    job = start(found)
    assert end_of(site, job).status == "completed", site.explain(job)
    until_ended(site, job)
    nodes = []
    for step in "ab":
        node, count, listed = (tmp_path / f"on-{step}").read_text().split()
        assert (count, listed) == ("1", node)
        assert (tmp_path / f"srun-{step}").read_text().split() == [node] * 2
        assert (tmp_path / f"all-{step}").read_text().split() == [node] * 3
        nodes.append(node)
    assert len(set(nodes)) == 2


DIRECTORIES = """
actions:
  write: {type: script, script: 'echo step > "$STROEM_OUTPUT_DIR/step"'}
tasks:
  main:
    flow: {a: {action: write}}
    workflow_actions:
      - {name: ask, trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: SCHED,
         scheduler_type: slurm}
      - {name: first, trigger_type: on_workflow_start, action_type: run_commands, commands: ['echo x > first']}
      - {name: half, trigger_type: on_jobs_complete, jobs: [a], action_type: run_commands, commands: ['echo x > half']}
      - {name: here, trigger_type: on_jobs_complete, jobs: [a], where: any, action_type: run_commands,
         commands: ['echo x > here']}
"""


def test_a_job_has_one_output_directory_whatever_the_roots_and_its_actions_run_on_nodes(
    site: Site, tmp_path: Path
) -> None:
    found = site.workspace(DIRECTORIES)
    site.scheduler()
    site.submitter("login", "script", output_root=str(tmp_path / "login"))
    job = start(found)
    assert end_of(site, job).status == "completed", site.explain(job)
    (row,) = until_ended(site, job)
    names = ("first", "half", "here")
    until(
        lambda: all(
            JobAction.objects.get(job_id=job.id, name=name).status == "succeeded" for name in names
        )
    )
    directory = tmp_path / "login" / str(job.id)
    files = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    assert files == {"step", *names, f"slurm-{site.scheduler_name}-{row.slurm_job_id}.log"}
    ran = {
        JobAction.objects.get(id=id).name: [run.worker for run in found]
        for id, found in runs_of(job.id).items()
    }
    node = f"slurm-{row.slurm_job_id}-0"
    assert (ran["first"], ran["half"], workers_of(job)["a"]) == ([node], [node], node)
    (told,) = StepEvent.objects.filter(job_id=job.id, kind="output_differs")
    assert str(directory) in told.detail and "is not used" in told.detail
    assert Attempt.objects.filter(job_id=job.id, error="").exists()
