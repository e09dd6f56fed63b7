"""A jupyter_client kernel provisioner that starts a kernel inside the sandbox.

A kernel specification asks for it by name, `"kernel_provisioner": {"provisioner_name": "edgelab-sandbox", ...}`, and
says in its `config` which limits, environment and socket folder the kernel gets.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Dict, Unicode

from edgelab.grading import sandbox, seccomp
from edgelab.grading.limits import Limits
from edgelab.grading.relay import Relay

INFO_BYTES = 4096


class SandboxProvisioner(LocalProvisioner):
    """Starts a kernel in bubblewrap, and talks to it through a relay, since it has no network and no folder of ours."""

    parent: KernelManager
    environment = Dict(config=True)
    limits = Dict(config=True)
    sockets = Unicode(config=True)
    relay: Relay | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Put the sandbox's command before the kernel's."""
        manager, folder = self.parent, Path(self.sockets)
        folder.mkdir(mode=0o700, exist_ok=True)
        manager.transport = "ipc"  # before the parent class writes the connection file
        manager.ip = str(sandbox.SOCKETS / "k")
        manager.connection_file = str(folder / "connection.json")
        kwargs = await super().pre_launch(**kwargs)
        # A copy: the manager writes its own anew, with the names by which clients know the sockets.
        connection = Path(shutil.copyfile(manager.connection_file, folder / "inside.json"))
        connection.chmod(0o400)
        uid = sandbox.free_uid()
        if uid is not None:
            os.chown(connection, uid, uid)
        self._filter = _readable(seccomp.program())
        self._info, told = os.pipe()
        self._passed = (told,) if self._filter is None else (told, self._filter)
        prefix = sandbox.command(
            Limits(**self.limits),
            environment=self.environment,
            connection=connection,
            uid=uid,
            filter_fd=self._filter,
            info_fd=told,
        )
        command = [word.replace(manager.connection_file, str(sandbox.CONNECTION)) for word in kwargs["cmd"]]
        # bubblewrap's own environment could be read in /proc by a kernel of the same user.
        kwargs |= {"cmd": prefix + command, "env": {}, "stdin": subprocess.DEVNULL}
        return {**kwargs, "pass_fds": self._passed}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start bubblewrap, which inherits its file descriptors, and the relay, to which clients connect."""
        try:
            await super().launch_kernel(cmd, **kwargs)
        finally:
            for descriptor in self._passed:
                os.close(descriptor)
        with open(self._info, "rb") as info:
            told = json.loads(info.read(INFO_BYTES))  # ends when bubblewrap has told it
        prefix, found = Path(self.sockets, "k"), self.connection_info
        ports = (found["shell_port"], found["iopub_port"], found["control_port"])
        self.relay = Relay(prefix, sandbox.SOCKETS / "k", told["child-pid"], ports)
        self.connection_info = {**found, "ip": str(prefix)}
        return self.connection_info


def _readable(content: bytes) -> int | None:
    """Return a file descriptor to read `content` from: a pipe, which holds 64 kB before anyone reads."""
    if not content:
        return None
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader
