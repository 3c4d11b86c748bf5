import datetime
import http.server
import ipaddress
import json
import shutil
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from petseg.errors import UserError
from petseg.training import distribution, kubernetes_hosts

TOKEN = "secret-of-the-pod"
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "pets-3", "namespace": "vision"},
    "spec": {
        "completions": 12,
        "completionMode": "Indexed",
        "template": {"spec": {"subdomain": "hosts", "containers": []}},
    },
}


def make_certificate(folder):
    """A key and a certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class ApiServer(http.server.BaseHTTPRequestHandler):
    """Shows one Job to whoever has the token."""

    job = JOB

    def do_GET(self):
        is_known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        is_there = self.path == "/apis/batch/v1/namespaces/vision/jobs/pets-3"
        self.send_response((200 if is_there else 404) if is_known else 403)
        self.end_headers()
        self.wfile.write(json.dumps(self.job if is_known and is_there else {}).encode())

    def log_message(self, *_arguments):
        """Prints nothing."""


@pytest.fixture
def credentials(tmp_path):
    make_certificate(tmp_path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "namespace").write_text("vision")
    return tmp_path


@pytest.fixture
def pod(credentials):
    """The variables of pod 2 of 12, whose cluster has an API server on loopback."""
    server = http.server.HTTPServer(("127.0.0.1", 0), ApiServer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials / "ca.crt", credentials / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield {
        "JOB_COMPLETION_INDEX": "2",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.server_port),
    }
    server.shutdown()
    server.server_close()
    serving.join()


def test_a_pod_learns_the_names_of_all_in_the_order_of_their_indices(pod, credentials):
    addresses, index = kubernetes_hosts.hosts_of_job(pod, "pets-3-2", credentials)
    assert index == 2 and len(addresses) == 12
    assert addresses[index] == "pets-3-2.hosts:8470"
    assert addresses[10:] == ["pets-3-10.hosts:8470", "pets-3-11.hosts:8470"]


def test_the_strategys_resolver_asks_the_api_server(pod, credentials, monkeypatch):
    monkeypatch.setattr(kubernetes_hosts, "CREDENTIALS", credentials)
    monkeypatch.setattr(kubernetes_hosts.socket, "gethostname", lambda: "pets-3-2")
    for name, value in pod.items():
        monkeypatch.setenv(name, value)
    resolver = distribution._make_resolver("kubernetes")
    addresses, index = distribution._hosts(resolver)
    assert (addresses[index], index, len(addresses)) == ("pets-3-2.hosts:8470", 2, 12)


@pytest.mark.parametrize(("variables", "hostname", "files", "message"), [
    ({"JOB_COMPLETION_INDEX": None}, "pets-3-2", {}, "JOB_COMPLETION_INDEX is not set"),
    ({"KUBERNETES_SERVICE_HOST": None}, "pets-3-2", {}, "KUBERNETES_SERVICE_HOST is not set"),
    ({}, "machine-7", {}, "hostname machine-7 does not end with the pod's index 2"),
    ({}, "pets-4-2", {}, "refuses to show the Job pets-4 in vision (404 Not Found)"),
    ({}, "pets-3-2", {"token": "of another"}, "(403 Forbidden): let the pod's service account"),
    ({}, "pets-3-2", {"namespace": "a/../b"}, "is not the name of a Job"),
])  # fmt: skip
def test_what_is_wrong_is_said_without_the_token(
    pod, credentials, variables, hostname, files, message
):
    for name, text in files.items():
        (credentials / name).write_text(text)
    given = {name: value for name, value in (pod | variables).items() if value is not None}
    with pytest.raises(ValueError, match=r".*") as caught:
        kubernetes_hosts.hosts_of_job(given, hostname, credentials)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_job_without_a_headless_service_is_refused(pod, credentials, monkeypatch):
    job = json.loads(json.dumps(JOB))
    del job["spec"]["template"]["spec"]["subdomain"]
    monkeypatch.setattr(ApiServer, "job", job)
    with pytest.raises(ValueError, match=r"pets-3 has no spec\.template\.spec\.subdomain"):
        kubernetes_hosts.hosts_of_job(pod, "pets-3-2", credentials)


def test_a_server_with_another_certificate_gets_no_token(pod, credentials, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    make_certificate(other)
    shutil.copy(other / "ca.crt", credentials)
    with pytest.raises(ssl.SSLCertVerificationError):
        kubernetes_hosts.hosts_of_job(pod, "pets-3-2", credentials)


def test_a_server_that_is_not_there_is_one_line(credentials, monkeypatch):
    monkeypatch.setattr(kubernetes_hosts, "CREDENTIALS", credentials)
    monkeypatch.setattr(kubernetes_hosts.socket, "gethostname", lambda: "pets-3-0")
    for name, value in {
        "JOB_COMPLETION_INDEX": "0",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"cluster=kubernetes: .*refused") as caught:
        distribution.make_strategy("multi_worker", "kubernetes", 0, 8)
    assert "\n" not in str(caught.value)
