"""TF_CONFIG is validated before training: TensorFlow accepts wrong values, or waits forever."""

import json

import pytest

from app.training import cluster_spec, distribution
from tasks.core.errors import UserError

WORKERS = ["one:2222", "two:2222"]


def config(cluster=None, kind="worker", index=0, **others):
    cluster = {"worker": WORKERS} if cluster is None else cluster
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, **others})


@pytest.mark.parametrize(
    "text",
    [
        config(),
        config(index=1),
        config(index="1"),
        config({"worker": ["localhost:1"]}),
        config({"chief": ["a:1"], "worker": ["b:1"]}, "chief"),
        config({"chief": ["a:1"], "worker": ["b:1"]}, "worker"),
        config({"worker": ["train-0.train:2222", "10.0.0.1:65535", "[fe80::1]:1"]}, index=2),
        config(environment="cloud", rpc_layer="grpc"),
    ],
)
def test_a_cluster_of_workers_is_accepted(text):
    cluster_spec.check(text)


MALFORMED = {
    "nothing": ("", "must be set, got ''"),
    "blank": (" \n", "must be set"),
    "not JSON": ("{", "must be a JSON object (not valid JSON: "),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "not an object": ("[1]", "must be a JSON object, got [1]"),
    "a text": ('"worker"', "must be a JSON object, got 'worker'"),
    "no cluster": ('{"task": {"type": "worker", "index": 0}}', "cluster must be an object"),
    "empty cluster": (config({}), "cluster must be an object"),
    "cluster a list": (config(WORKERS), "cluster must be an object"),
    "index -1": (config(index=-1), "task.index must be an integer from 0 to 1, the last"),
    "index out of range": (config(index=2), "from 0 to 1, the last index of cluster.worker, got 2"),
    "index a float": (config(index=0.5), "task.index must be an integer"),
    "index true": (config(index=True), "task.index must be an integer"),
    "index a word": (config(index="first"), "task.index must be an integer"),
    "no index": (config(index=None), "task.index must be an integer"),
    "no port": (config({"worker": ["one"]}), "strings HOST:PORT with a port from 1 to 65535"),
    "port 99999": (config({"worker": ["one:99999"]}), "65535, got 'one:99999'"),
    "port 0": (config({"worker": ["one:0"]}), "65535, got 'one:0'"),
    "port a word": (config({"worker": ["one:http"]}), "65535, got 'one:http'"),
    "port in other digits": (config({"worker": ["one:\u0661"]}), "strings HOST:PORT"),
    "URL": (config({"worker": ["http://one:1"]}), "strings HOST:PORT"),
    "space": (config({"worker": ["one :1"]}), "strings HOST:PORT"),
    "numbers": (config({"worker": [1, 2]}), "strings HOST:PORT with a port from 1 to 65535, got 1"),
    "worker a text": (config({"worker": "one:1"}), "cluster.worker must be a list of addresses"),
    "no workers": (config({"worker": []}), "cluster.worker must be a list of addresses, got []"),
    "workers by index": (config({"worker": {"0": "one:1"}}), "must be a list of addresses"),
    "unknown type": (config({"master": ["one:1"]}, "master"), "chief and worker"),
    "parameter server": (config({"worker": WORKERS, "ps": ["a:1"]}), "got 'ps'"),
    "lone evaluator": (config({"evaluator": ["a:1"]}, "evaluator"), "got 'evaluator'"),
    "task of another type": (config(kind="chief"), "task.type must be one of the types in cluster"),
    "type a list": (config(kind=["worker"]), "task.type must be one of the types in cluster"),
    "no task": (json.dumps({"cluster": {"worker": WORKERS}}), "task must be an object"),
    "task a text": (
        json.dumps({"cluster": {"worker": WORKERS}, "task": "worker"}),
        "task must be an object",
    ),
    "two chiefs": (config({"chief": WORKERS}, "chief"), "cluster.chief must have one address"),
    "duplicate": (config({"worker": ["one:1", "one:1"]}), "each address once, got 'one:1'"),
    "duplicate of the chief": (
        config({"chief": ["one:1"], "worker": ["two:1", "one:1"]}),
        "cluster must have each address once",
    ),
    "long": (config({"worker": ["x" * 10_000]}), "xxx..."),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_cluster_is_reported(case, monkeypatch):
    text, expected = MALFORMED[case]
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError) as error:
        distribution.strategy_of("multiworker")
    message = str(error.value)
    assert message.startswith("--strategy multiworker: TF_CONFIG: ") and expected in message
    assert message.count("\n") == 1 and len(message) < 700
