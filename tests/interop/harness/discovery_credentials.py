"""Each kind of credentials that the SDK's chain knows, as AWS hands it out; the key that signs says who was asked."""

from .discovery_lab import API_SOURCE, ENVIRONMENT
from .world import VPC

REGION = {"AWS_REGION": "us-east-1"}


def check(lab, report, _short):
    report.section("Credentials")
    configuration = lab.configuration(API_SOURCE)
    home = lab.home / "aws"
    home.mkdir()
    (home / "credentials").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = secret\n"
        "[sidegate]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = secret\n"
    )
    (home / "config").write_text("[profile sidegate]\nregion = us-east-1\n")
    (home / "pod").write_text("token-of-the-pod")
    (home / "web").write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzaWRlZ2F0ZSJ9.")
    no_instance = {"AWS_EC2_METADATA_DISABLED": "true"}
    files = {"AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"), "AWS_CONFIG_FILE": str(home / "config")}
    pod = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(home / "pod"),
    }
    web = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "web"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/sidegate",
        "AWS_ROLE_SESSION_NAME": "interop",
        "AWS_ENDPOINT_URL_STS": "http://sts.corp.internal",
    }
    count = len(lab.private())
    for what, environment, key, token in (
        ("environment", ENVIRONMENT, "AKIAENVIRONMENT", None),
        ("shared file, profile default", {**files, **no_instance}, "AKIADEFAULT", None),
        ("shared file, AWS_PROFILE", {**files, **no_instance, "AWS_PROFILE": "sidegate"}, "AKIAPROFILE", None),
        (
            "ECS task role, 169.254.170.2",
            {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/task", **no_instance},
            "ASIAECS",
            "session-ASIAECS",
        ),
        ("EKS pod identity, 169.254.170.23 and a token file", {**pod, **no_instance}, "ASIAPOD", "session-ASIAPOD"),
        ("web identity (IRSA), moto's STS", {**web, **no_instance}, "ASIA", ""),
        ("instance role, IMDSv2 at 169.254.169.254", {}, "ASIAINSTANCE", "session-ASIAINSTANCE"),
    ):
        code, out, error = lab.discover(configuration, env={**REGION, **environment})
        counts = lab.counts()
        signed, session = counts["keys"][-1], counts["tokens"][-1]
        listed = len(out.splitlines())
        right = code == 0 and listed >= count and (signed or "").startswith(key)
        right = right and (bool(session) if token == "" else session == token)
        report.check(
            f"{what}: signed with its key",
            [] if right else f"exit {code}, {listed} lines, key {signed}, session {session}: {error}",
        )
    (home / "pod").write_text("another token")
    code, _, error = lab.discover(configuration, env={**REGION, **pod, **no_instance})
    report.check(
        "a pod's token that is refused: exit 1, says credentials",
        [] if code == 1 and "credentials" in error else f"{code} {error}",
    )
    code, _, error = lab.discover(configuration, env={**REGION, **no_instance})
    report.check(
        "none at all: exit 1, says credentials", [] if code == 1 and "credentials" in error else f"{code} {error}"
    )
    # A name that nobody knows but the VPC's resolver was found above; without that resolver it is not.
    text = configuration.read_text().replace(f'vpc = ["{VPC}"]', 'vpc = ["10.53.2.3"]')
    configuration.write_text(text)
    code, _, error = lab.discover(configuration)
    named = "apigateway.corp.internal" in error
    report.check(
        "the control plane's name is asked of the vpc upstream only", [] if code == 1 and named else f"{code} {error}"
    )
