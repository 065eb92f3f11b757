"""The public suites that `run.sh` has fetched, against three nodes on RabbitMQ's ports, and a line for each."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from kit import cluster as clusters  # noqa: E402

SUITES = Path(os.environ["SUITES"])
LIMIT_S = 900
# Five tests of ConnectionRecovery make about 100,000 declarations, bindings and deletions, one after the other, each a record
# of the metadata group: 1,046 s of the 2,544 that the suite took at a load above 12.
JAVA_LIMIT_S = 3600
URL = "amqp://guest:guest@127.0.0.1:5672/"

# What is left out, and why; README.md says more.
RESTART = "restarts the broker through RabbitMQ's own Makefile"
JAVA = {
    "FrameMax.rejectLargeFramesDuringConnectionNegotiation": "of 3.x: since 4.1 a login may take 8,192 octets",
    "DeadLetterExchange.declareQueueWithInvalidDeadLetterRoutingKeyArg": "fails against RabbitMQ as well",
    "CcRoutes.nonArray": "a race of its own: our close may be there before its next call",
    "ConnectionRecovery.blockedListenerRecovery": "raises an alarm through RabbitMQ's own Makefile",
    "PerMessageTTL.invalidTypeUsedInTTL": "a race of its own: our close may be there before its next call",
    "PerMessageTTL.trailingCharsUsedInTTL": "a race of its own: our close may be there before its next call",
    "PerMessageTTL.tTLMustBePositive": "a race of its own: our close may be there before its next call",
    "Permissions.passiveDeclaration": "of 3.x: a passive declare needs a permission since",
    "XDeathHeaderGrowth.handlingOfXDeathHeadersFromEarlierVersions": "of 3.x: the old form of x-death",
    "DurableOnTransient.semiDurableBindingRemoval": RESTART,
    "PerMessageTTL.restartingExpiry": RESTART,
    "PerQueueVsPerMessageTTL.restartingExpiry": RESTART,
    "PerQueueTTL.restartingExpiry": RESTART,
    "ConnectionRecovery.clientNamedTransientAutoDeleteQueueAndBindingRecovery": RESTART,
    "ConnectionRecovery.serverNamedTransientAutoDeleteQueueAndBindingRecovery": RESTART,
    "ConnectionRecovery.connectionRecoveryWithServerRestart": RESTART,
}
JAVA_FUNCTIONAL = """
    AlternateExchange BasicGet BindingLifecycle CcRoutes Confirm ConnectionOpen ConnectionRecovery ConsumerCancelNotification
    ConsumerCount ConsumerPriorities DeadLetterExchange DefaultExchange DirectReplyTo DoubleDeletion DurableOnTransient
    ExceptionHandling ExceptionMessages ExchangeDeclare ExchangeDeleteIfUnused ExchangeExchangeBindings
    ExchangeExchangeBindingsAutoDelete FrameMax HeadersExchangeValidation Heartbeat InternalExchange InvalidAcks InvalidAcksTx
    Nack NoRequeueOnCancel PerConsumerPrefetch PerMessageTTL PerQueueTTL PerQueueVsPerMessageTTL Policies QosTests
    QueueExclusivity QueueLease QueueLifecycle QueueSizeLimit Recover Reject RequeueOnChannelClose RequeueOnConnectionClose
    Routing SaslMechanisms Tables Transactions UnbindAutoDeleteExchange UnexpectedFrames UserIDHeader
""".split()
JAVA_SERVER = "AlternateExchangeEquivalence Permissions PriorityQueues TopicPermissions XDeathHeaderGrowth".split()
JARS = """
    amqp-client junit4 hamcrest mockito-core assertj-core byte-buddy byte-buddy-agent objenesis slf4j-api slf4j-simple
    jackson-databind jackson-core jackson-annotations bcprov bcpkix commons-cli commons-io
""".split()
GO = {"ExampleConnection_reconnect": "compares a log that depends on when a goroutine runs; passes by itself"}
PYTHON = {"tls": "wants the certificates that the client's CI makes"}


def run(command, directory, limit_s=LIMIT_S, **environment):
    """The command's output; it ends after a while."""
    try:
        done = subprocess.run(
            command, cwd=directory, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=limit_s, text=True, errors="replace", check=False,
        )  # fmt: skip
        return done.stdout
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace") + f"\nFAILED: not done after {limit_s} s\n"


def number(pattern, text):
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0


def pytest(directory, *what):
    # The pause of a rerun is for a broker that is slow; ours gets no second try.
    command = [str(SUITES / "venv/bin/pytest"), "-q", "-p", "no:rerunfailures", "-p", "no:cacheprovider", "--timeout", "60"]
    text = run([*command, "-k", " and ".join(f"not {name}" for name in PYTHON), *what], directory, RABBITMQ_HOST="127.0.0.1")
    failed = number(r"(\d+) failed", text) + number(r"(\d+) errors?", text)
    return number(r"(\d+) passed", text), failed, number(r"(\d+) deselected", text), text


def java():
    source = SUITES / "rabbitmq-java-client"
    classes = SUITES / "java-classes"
    jars = [Path("/usr/share/java") / f"{jar}.jar" for jar in JARS]
    path = ":".join(str(jar) for jar in jars if jar.exists())
    # Two use libraries that Debian does not have; the lists of suites name the first of these.
    dropped = {"Metrics.java", "StandardMetricsCollectorTest.java", "FunctionalTests.java", "ClientTests.java", "ServerTests.java"}
    stubs = SUITES / "java-stubs"
    for package, name in (("functional", "FunctionalTests"), ("server", "ServerTests")):
        stub = stubs / f"{name}.java"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"package com.rabbitmq.client.test.{package}; public class {name} {{}}\n")
    files = [file for file in (source / "src/test/java").rglob("*.java") if file.name not in dropped]
    classes.mkdir(exist_ok=True)
    names = [str(file) for file in [*files, *stubs.glob("*.java"), HERE / "java/Suite.java"]]
    compiled = run(["javac", "-nowarn", "-proc:none", "-cp", path, "-d", str(classes), *names], source)
    if " error" in compiled:
        return 0, 1, 0, compiled
    left_out = SUITES / "java-left-out"
    left_out.write_text("\n".join(JAVA))
    package = "com.rabbitmq.client.test"
    tests = [f"{package}.functional.{name}" for name in JAVA_FUNCTIONAL]
    tests += [f"{package}.server.{name}" for name in JAVA_SERVER]
    text = run(
        ["java", f"-Drabbitmqctl.bin={HERE}/shim/rabbitmqctl", "-Dtest-broker.A.nodename=n1",
         "-Dbroker.hostname=localhost", "-Dbroker.port=5672", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
         "-cp", f"{classes}:{path}", "Suite", str(left_out), *tests], source, JAVA_LIMIT_S,
    )  # fmt: skip
    ran, failed = number(r"^RAN (\d+)", text), number(r"^RAN \d+ FAILED (\d+)", text)
    if not ran:  # cut off: what it had told
        return number_of("DONE ", text), 1, len(JAVA), text
    return ran - failed, failed, len(JAVA), text


def amqplib():
    text = run(["node_modules/.bin/mocha", "-u", "tdd", "--exit", "--grep", "ipv6", "--invert", "test/"], SUITES / "amqplib", URL=URL)
    return number(r"(\d+) passing", text), number(r"(\d+) failing", text), 1, text


def amqp091_go():
    home = SUITES / "go/src/github.com/rabbitmq"
    home.mkdir(parents=True, exist_ok=True)
    link = home / "amqp091-go"
    if not link.exists():
        run(["cp", "-a", str(SUITES / "golang-github-rabbitmq-amqp091-go"), str(link)], SUITES)
    path = f"{SUITES}/go:/usr/share/gocode"
    tests = run(["go", "test", "-tags", "integration", "-list", "."], link, GO111MODULE="off", GOPATH=path)
    names = [name for name in tests.split() if re.match(r"(Test|Example)\w*$", name) and name not in GO]
    command = ["go", "test", "-tags", "integration", "-count=1", "-v", "-run", f"^({'|'.join(names)})$", "."]
    text = run(command, link, GO111MODULE="off", GOPATH=path, AMQP_URL=URL)
    return number_of("--- PASS", text), max(number_of("--- FAIL", text), number_of("panic:", text)), len(GO), text


def number_of(start, text):
    return sum(line.startswith(start) for line in text.splitlines())


def rabbitmq_c():
    source, built = SUITES / "librabbitmq", SUITES / "librabbitmq-built"
    built.mkdir(exist_ok=True)
    passed, failed, everything = 0, 0, ""
    # Those that need no part of the library that a shared one hides.
    for test in ("test_tables", "test_status_enum"):
        compiled = run(
            ["gcc", "-w", "-I", str(source / "librabbitmq"), "-I", str(source / "include"), f"tests/{test}.c",
             "-o", str(built / test), "-lrabbitmq"], source,
        )  # fmt: skip
        if not (built / test).exists():
            failed, everything = failed + 1, everything + compiled
            continue
        done = subprocess.run([built / test], cwd=source, capture_output=True, text=True, timeout=120, check=False)
        passed, failed = passed + (done.returncode == 0), failed + (done.returncode != 0)
        everything += f"{test}: {done.returncode}\n{done.stdout}{done.stderr}"
    return passed, failed, 0, everything


RUNNERS = {
    "java": java,
    "amqplib": amqplib,
    "amqp091-go": amqp091_go,
    "py-amqp": lambda: pytest(SUITES / "amqp", "t/integration"),
    "kombu": lambda: pytest(SUITES / "kombu", "t/integration/test_py_amqp.py"),
    "rabbitmq-c": rabbitmq_c,
}


def three_nodes(directory):
    cluster = clusters.Cluster(os.environ["WARREN_BIN"], directory)
    for at, node in enumerate(cluster.nodes):
        node.amqp_port, node.http_port, node.cluster_port, node.metrics_port = 5672 + at, 15672 + at, 25672 + at, 15692 + at
    return cluster


def main(wanted):
    worst = 0
    logs = SUITES / "logs"
    logs.mkdir(exist_ok=True)
    for name in wanted:
        if name.endswith("=missing"):
            print(f"{name.removesuffix('=missing'):12} SKIPPED: its sources cannot be had here", flush=True)
            continue
        with tempfile.TemporaryDirectory() as directory, three_nodes(Path(directory)):
            passed, failed, left_out, text = RUNNERS[name]()
        (logs / f"{name}.log").write_text(text)
        if failed or not passed:
            worst = 1
        print(f"{name:12} {passed} passed, {failed} failed, {left_out} left out   {logs}/{name}.log", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
