"""Runs the integration tests of pypegasus3 as its source distribution ships them, against this project's servers.

Nothing of the tests is replaced but the class that starts and stops servers, `ServerOperator`, which upstream drives a
"onebox" with. Usage: run_integration.py PEGASUS DIR [test ...] in the directory of the unpacked distribution, with
PEGASUS the command line tool and DIR a directory for the cluster.

The tests speak of metas and replica servers by number. Here:
* replica server i is data node i, stopped by SIGTERM and started again with its own command line;
* however many metas a test asks for, one runs, on the first of the ports that the client queries. Stopping a meta of a
  group leaves a group that answers, so stopping one kills that one and starts it again at once, as a new leader;
* a cluster of no replica servers is one whose nodes have all ended after the table was made;
* settings of Apache Pegasus' own configuration files (time limits of its failure detector) have no equivalent.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

PATIENCE_SECONDS = 60
TABLE = "temp"
PARTITIONS = 8


def fail(message):
    raise RuntimeError(message)


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            fail(f"waited {PATIENCE_SECONDS} s for {what}")
        time.sleep(0.05)


class Process:
    """One process of the cluster: where its pid file and log are, and how it was started."""

    def __init__(self, directory):
        self.directory = directory
        with open(f"/proc/{self.pid()}/cmdline", "rb") as file:
            self.command = file.read().split(b"\0")[:-1]

    def pid(self):
        with open(os.path.join(self.directory, "pid")) as file:
            return int(file.read().split()[0])

    def runs(self):
        try:
            with open(f"/proc/{self.pid()}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        os.kill(self.pid(), how)
        wait_until(f"{self.directory} to end", lambda: not self.runs())

    def start(self):
        with open(os.path.join(self.directory, "log"), "ab") as log:
            child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        Process.children.append(child)
        with open(os.path.join(self.directory, "pid"), "w") as file:
            file.write(f"{child.pid}\n")

    children = []

    @classmethod
    def reap(cls):
        for child in cls.children:
            child.poll()


class Servers:
    """What the tests call `ServerOperator`."""

    pegasus = None
    directory = None
    processes = {}

    @classmethod
    def run(cls, *arguments):
        done = subprocess.run([cls.pegasus, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"pegasus {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @classmethod
    def modify_conf(cls, old_conf, new_conf):
        pass

    @classmethod
    def start_cluster(cls, meta_count, replica_count, check_health):
        nodes = replica_count or 3
        cls.run("local", "start", "--dir", cls.directory, "--nodes", str(nodes), "--cores", "1", "--base-port", "34600")
        cls.run("table", "create", TABLE, "--partitions", str(PARTITIONS), "--replicas", "3")
        cls.wait_until_cluster_health()
        names = ["meta"] + [f"node-{number}" for number in range(1, nodes + 1)]
        cls.processes = {name: Process(os.path.join(cls.directory, name)) for name in names}
        if replica_count == 0:
            for number in range(1, nodes + 1):
                cls.stop_1_replica(number)

    @classmethod
    def stop_and_clear_cluster(cls):
        if os.path.exists(cls.directory):
            for process in cls.processes.values():
                if process.runs():
                    process.stop(signal.SIGKILL)
            Process.reap()
            cls.run("local", "stop", "--kill", "--dir", cls.directory)
            shutil.rmtree(cls.directory)
        cls.processes = {}

    @classmethod
    def stop_1_replica(cls, index):
        cls.processes[f"node-{index}"].stop()

    @classmethod
    def start_1_replica(cls, index):
        cls.processes[f"node-{index}"].start()

    @classmethod
    def restart_1_replica(cls, index):
        cls.stop_1_replica(index)
        cls.start_1_replica(index)

    @classmethod
    def stop_1_meta(cls, index):
        cls.processes["meta"].stop(signal.SIGKILL)
        cls.processes["meta"].start()

    @classmethod
    def start_1_meta(cls, index):
        pass

    @classmethod
    def wait_until_cluster_health(cls):
        wait_until(f"table {TABLE} to be healthy", cls.is_healthy)

    @classmethod
    def is_healthy(cls):
        done = subprocess.run([cls.pegasus, "table", "show", TABLE, "--json"], capture_output=True, text=True)
        return done.returncode == 0 and json.loads(done.stdout)["state"] == "healthy"


def main():
    Servers.pegasus, Servers.directory, *names = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    from tests import test_integration
    from twisted.trial import reporter, runner
    from twisted.trial.unittest import TestSuite

    test_integration.ServerOperator = Servers
    loader = runner.TestLoader()
    suite = loader.loadClass(test_integration.TestIntegration)
    if names:
        wanted = [test for test in suite if test.id().rsplit(".", 1)[1] in names]
        suite = TestSuite(wanted)
    try:
        result = runner.TrialRunner(reporter.VerboseTextReporter).run(suite)
    finally:
        Servers.stop_and_clear_cluster()
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
