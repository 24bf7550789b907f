"""Of a rendered overlay on stdin, its Deployment for this machine on stdout: a local image, a folder in place of the claim.

usage: local_pod.py IMAGE MODELS <rendered.yaml >pod.yaml
"""
import sys

import yaml

image, models = sys.argv[1:]
(deployment,) = [d for d in yaml.safe_load_all(sys.stdin) if d["kind"] == "Deployment"]
deployment["spec"]["replicas"] = 1
pod = deployment["spec"]["template"]["spec"]
(server,) = pod["containers"]
server["image"] = f"localhost/{image}"
server["imagePullPolicy"] = "Never"
# What needs a kubelet: gRPC probes and its preStop sleep. And ports, which podman would publish on every address.
for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
    del server[field]
(volume,) = pod["volumes"]
pod["volumes"] = [{"name": volume["name"], "hostPath": {"path": models, "type": "Directory"}}]
yaml.safe_dump(deployment, sys.stdout)
