"""Manifest of a server on Kubernetes: the same files and restrictions as in the Compose file."""

from collections.abc import Mapping
from urllib.parse import quote

from app.serving import server_config
from app.serving.server_config import Limits

NAME = "kubernetes.yaml"
_APP = "gated-serving"  # name of all objects, and label of the pods
_CLAIM = "saved-models"  # persistent volume claim with the published models
_NOBODY = 65534  # user and group without rights
_REPLICAS = (1, 4)  # fewest and most
_UTILISATION = 70  # percent of the requested processors above which replicas are added


def manifest(labels: Mapping[str, Mapping[str, int]], limits: Limits) -> list[dict]:
    """Returns a ConfigMap, a Deployment, a Service and a HorizontalPodAutoscaler.

    Models are read from the persistent volume claim "saved-models". A changed ConfigMap reaches
    the pods within about a minute, and the server rereads it every ten seconds.

    Args:
        labels: By model, the version of each label.
        limits: Resources of each pod.
    """
    return [_config_map(labels, limits), _deployment(labels, limits), _service(), _autoscaler()]


def _config_map(labels, limits):
    contents = {
        server_config.MODELS: server_config.models(labels),
        server_config.BATCHING: server_config.batching(limits),
        server_config.MONITORING: server_config.monitoring(),
    }
    data = {name: server_config.text(content) for name, content in contents.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(), "data": data}


def _deployment(labels, limits):
    pod = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 30,
        "containers": [_container(labels, limits)],
        "volumes": [
            {
                "name": "models",
                "persistentVolumeClaim": {"claimName": _CLAIM, "readOnly": True},
            },
            {"name": "config", "configMap": {"name": _APP}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(),
        "spec": {
            "replicas": _REPLICAS[0],
            "selector": {"matchLabels": {"app": _APP}},
            "template": {"metadata": {"labels": {"app": _APP}}, "spec": pod},
        },
    }


def _container(labels, limits):
    # A gibibyte of Compose, "4g", is "4Gi" here; a processor may be divided into thousandths.
    memory = limits.memory[:-1] + {"m": "Mi", "g": "Gi"}[limits.memory[-1]]
    resources = {"memory": memory, "cpu": f"{round(limits.cpus * 1000)}m"}
    loaded = {"path": f"/v1/models/{quote(min(labels))}", "port": "rest"}
    metrics = {"path": server_config.METRICS, "port": "rest"}
    ports = {"grpc": server_config.GRPC_PORT, "rest": server_config.REST_PORT}
    return {
        "name": server_config.SERVICE,
        "image": server_config.IMAGE,
        "args": server_config.arguments(limits),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        # With equal requests and limits a pod is the last to be evicted.
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": {"httpGet": loaded, "periodSeconds": 5, "failureThreshold": 24},
        "readinessProbe": {"httpGet": loaded, "periodSeconds": 10, "timeoutSeconds": 5},
        "livenessProbe": {"httpGet": metrics, "periodSeconds": 30, "timeoutSeconds": 5},
        "volumeMounts": [
            {"name": "models", "mountPath": str(server_config.BASE), "readOnly": True},
            {"name": "config", "mountPath": server_config.DEPLOY, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _service():
    ports = {"grpc": server_config.GRPC_PORT, "rest": server_config.REST_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(),
        "spec": {
            "type": "ClusterIP",  # the server does not authenticate
            "selector": {"app": _APP},
            "ports": [
                {"name": name, "port": port, "targetPort": name} for name, port in ports.items()
            ],
        },
    }


def _autoscaler():
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": _APP},
            "minReplicas": _REPLICAS[0],
            "maxReplicas": _REPLICAS[1],
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": _UTILISATION},
                    },
                }
            ],
        },
    }


def _metadata():
    return {"name": _APP, "labels": {"app": _APP}}
