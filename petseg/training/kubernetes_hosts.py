"""The hosts of an Indexed Job of Kubernetes, asked of the cluster's API server.

The Job says how many pods there are; each has a name that stays, JOB-INDEX.SUBDOMAIN, where the
subdomain is that of a headless Service. TensorFlow's own resolver looks for a kubeconfig, which
pods do not have, and takes the addresses of machines for those of pods.
"""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PORT = 8470
_TIMEOUT_S = 20


def hosts_of_job(
    variables: Mapping[str, str], hostname: str = "", credentials: Path | None = None
) -> tuple[list[str], int]:
    """HOST:PORT of every pod of the Job that this pod belongs to, and this pod's index.

    Args:
      variables: The environment of the pod.
      hostname: Of the pod, as the Job sets it: JOB-INDEX; empty: the machine's.
      credentials: The folder with the token, ca.crt and namespace of the pod's service account;
        None: CREDENTIALS, where Kubernetes puts it.

    Raises:
      OSError: The credentials or the API server cannot be reached.
      ValueError: This is no pod of an Indexed Job with a headless Service, or its service account
        may not read the Job.
    """
    try:
        index = int(variables["JOB_COMPLETION_INDEX"])
        server = variables["KUBERNETES_SERVICE_HOST"], int(variables["KUBERNETES_SERVICE_PORT"])
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]} is not set: this is no pod of a Job with completionMode: Indexed"
        ) from error
    hostname = hostname or socket.gethostname()
    job = hostname.removesuffix(f"-{index}")
    if job == hostname:
        raise ValueError(
            f"the hostname {hostname} does not end with the pod's index {index}: the pod must "
            "set neither hostname nor hostNetwork"
        )
    found = _read_job(server, job, credentials or CREDENTIALS)
    pods = found["spec"]["completions"]
    subdomain = found["spec"]["template"]["spec"].get("subdomain")
    if not subdomain:
        raise ValueError(
            f"the Job {job} has no spec.template.spec.subdomain: give it the name of a headless "
            "Service, so that its pods find each other"
        )
    return [f"{job}-{i}.{subdomain}:{PORT}" for i in range(pods)], index


def _read_job(server: tuple[str, int], job: str, credentials: Path) -> dict:
    token = (credentials / "token").read_text().strip()
    namespace = (credentials / "namespace").read_text().strip()
    if not all(re.fullmatch(r"[a-z0-9.-]+", name) for name in (namespace, job)):
        raise ValueError(f"{job!r} in {namespace!r} is not the name of a Job")
    context = ssl.create_default_context(cafile=credentials / "ca.crt")
    connection = http.client.HTTPSConnection(*server, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(
            "GET",
            f"/apis/batch/v1/namespaces/{namespace}/jobs/{job}",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
        response = connection.getresponse()
        content = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"the API server {server[0]}:{server[1]} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ValueError(
            f"the API server refuses to show the Job {job} in {namespace} ({response.status} "
            f"{response.reason}): let the pod's service account `get` `jobs`"
        )
    return json.loads(content)
