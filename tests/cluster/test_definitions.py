"""`--definitions`: a file of definitions that is taken over at a start, and once more when it is another one."""

import json
import subprocess

import pytest
from kit import cluster as clusters
from kit.http import http
from kit.wait import eventually


def written(path, **lists):
    path.write_text(json.dumps(lists))
    return path


@pytest.fixture
def made(binary, tmp_path):
    """Three nodes that are all told of the same file."""
    cluster = clusters.Cluster(binary, tmp_path)
    file = tmp_path / "definitions.json"
    for node in cluster.nodes:
        node.options = ["--definitions", str(file)]
    yield cluster, file
    cluster.destroy()


QUEUES = [{"name": name, "vhost": "/", "durable": True, "arguments": {"x-max-length": 5}} for name in ("a", "b")]


@pytest.mark.limit(300)
def test_they_are_taken_over_when_the_cluster_forms_and_when_the_file_is_another(made):
    cluster, file = made
    users = [{"name": "ann", "password": "secret", "tags": "administrator"}]
    written(file, users=users, queues=QUEUES[:1])
    cluster.start()
    node = cluster.nodes[0]
    eventually(lambda: http(node, "GET", "/queues/%2F/a")[0] == 200, "the queue of the definitions")
    eventually(lambda: http(node, "GET", "/whoami", user="ann:secret")[0] == 200, "their user")
    eventually(lambda: http(node, "GET", "/global-parameters/internal_definitions_hash")[0] == 200, "they are marked")
    # What is deleted does not come back while the file is the same.
    assert http(node, "DELETE", "/queues/%2F/a")[0] == 204
    log = cluster.nodes[1].log_path
    cluster.nodes[1].stop()
    cluster.nodes[1].start()
    cluster.nodes[1].wait_ready()
    eventually(lambda: "were taken over before" in log.read_text(), "the node has looked")
    assert http(node, "GET", "/queues/%2F/a")[0] == 404
    written(file, queues=QUEUES[1:])
    cluster.nodes[2].stop()
    cluster.nodes[2].start()
    eventually(lambda: http(node, "GET", "/queues/%2F/b")[0] == 200, "the queue of the new file")
    assert http(node, "GET", "/queues/%2F/a")[0] == 404


def test_what_cannot_be_is_said_and_the_cluster_serves(binary, tmp_path):
    file = written(tmp_path / "bad.json", queues=[{"name": "q", "vhost": "nowhere"}])
    cluster = clusters.Cluster(binary, tmp_path, size=1)
    cluster.nodes[0].options = ["--definitions", str(file)]
    with cluster:
        log = cluster.nodes[0].log_path
        eventually(lambda: "the definitions are NOT taken over" in log.read_text(), "the refusal")
        assert "queues: there is no virtual host 'nowhere'" in log.read_text()
        assert http(cluster.nodes[0], "PUT", "/queues/%2F/other", {})[0] == 201


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_what_is_no_file_of_definitions_starts_nothing(binary, tmp_path, text):
    file = tmp_path / "none.json"
    if text is not None:
        file.write_text(text)
    command = [binary, "server", "--data-dir", tmp_path / "data", "--definitions", file]
    for listener in ("amqp", "cluster", "http", "metrics"):
        command += [f"--{listener}-listen", f"127.0.0.1:{clusters.free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"cannot read the definitions in {file}" in done.stdout + done.stderr
