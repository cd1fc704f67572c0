"""The clusters of these tests leave nothing behind."""

from __future__ import annotations

import psutil

from tests.apps.jobs.builders import until
from tests.slurm.cluster import Cluster, residents


def test_no_process_of_a_cluster_is_left_when_it_is_closed(cluster: Cluster) -> None:
    own = Cluster()
    try:
        own.start()
        out = f"--output={own.folder}/out"
        own.run(
            "sbatch",
            "-N2",
            out,
            "--wrap",
            f"srun -N2 sh -c 'touch {own.folder}/on-$SLURM_NODEID; sleep 600'",
        )
        until(lambda: len(list(own.folder.glob("on-*"))) == 2, within_s=60)
        seen = residents(own.folder)
        daemons = [process for process in seen if "slurmstepd" in process.name()]
        assert len(daemons) == 3  # one of the batch script, one of the step on each node
    finally:
        own.close()
    assert not own.folder.exists() and residents(own.folder) == []
    assert not [
        process
        for process in seen
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]
