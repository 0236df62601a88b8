"""The engine on real Ray: several nodes on this machine, one of which is killed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from ray_standins import POISON, jpeg, load_slow, size_of, write_images

from solobox.predict import job as predict_job
from solobox.predict.job import run
from solobox.predict.writers import Columns
from solobox.ray import FolderJob, engine, prepare

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

# Ray's own use of sockets, files and deprecated names, which nobody here can mend.
pytestmark = pytest.mark.filterwarnings("ignore")

SMALL: dict[str, Any] = {"object_store_memory": 80_000_000, "num_cpus": 1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and one more node, a processor each."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray starts a dozen Python processes: where libraries lie without bytecode, each would compile them all.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        # Actors run in processes of their own, which have to find the stand-ins.
        here = Path(__file__).parent
        paths = [str(Path(engine.__file__).parents[2]), str(here), str(here.parent)]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        cluster.add_node(**SMALL)
        patch.setenv("RAY_ADDRESS", cluster.address)
        with engine.connected():
            yield cluster
        cluster.shutdown()  # type: ignore[no-untyped-call]


def images(job: FolderJob) -> list[str]:
    names: list[str] = []
    for shard in range(job.plan.shards):
        table = parquet.read_table(Path(job.folder.path) / job.part_name(shard))
        names += table.column("image").to_pylist()
    return names


def test_a_row_for_each_image_when_a_node_is_lost_on_the_way(tmp_path: Path, cluster: Cluster) -> None:
    names = write_images(tmp_path / "in", 240)
    (tmp_path / "in" / "00100.jpg").write_bytes(b"damaged")
    job, _ = prepare(str(tmp_path / "out"), b"", [str(tmp_path / "in")], Columns(), shard_size=10)
    assert ray.cluster_resources()["CPU"] == 2

    class Killer:
        """Kills a node, with its processes, when a quarter is done."""

        done = 0

        def start(self, stage: str, total: int | None) -> None: ...
        def say(self, text: str) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            before, self.done = self.done, self.done + steps
            if before < 60 <= self.done:
                (node,) = cluster.worker_nodes
                cluster.remove_node(node, allow_graceful=False)

    killer = Killer()
    summary = run(job, engine.on_ray(load_slow), killer)
    assert (summary.rows, summary.errors, summary.failures) == (240, 1, {})
    assert ray.cluster_resources()["CPU"] == 1
    assert killer.done == 240
    assert images(job) == names
    assert run(job, engine.on_ray(load_slow)) == summary


def test_a_shard_that_kills_its_actors_is_named_and_the_others_are_done(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_ATTEMPTS", 1)
    monkeypatch.setattr(
        predict_job, "_FRUITLESS_PASSES", 1
    )  # each pass and attempt costs the start of a process
    names = write_images(tmp_path / "in", 12)
    Path(names[5]).write_bytes(jpeg((POISON, 20)))
    job, _ = prepare(str(tmp_path / "out"), b"", [str(tmp_path / "in")], Columns(), shard_size=2)
    summary = run(job, engine.on_ray(load_slow))
    assert list(summary.failures) == ["part-00002.parquet"]
    assert summary.failures["part-00002.parquet"].startswith("its worker ended")
    assert summary.rows == 10
    Path(names[5]).write_bytes(jpeg(size_of(5)))
    summary = run(job, engine.on_ray(load_slow))
    assert (summary.rows, summary.failures) == (12, {})
    assert images(job) == names
