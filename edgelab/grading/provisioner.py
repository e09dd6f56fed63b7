"""A jupyter_client kernel provisioner that starts a kernel inside the sandbox.

A kernel specification asks for it by name, `"kernel_provisioner": {"provisioner_name": "edgelab-sandbox", ...}`, and
says in its `config` which limits, environment and socket folder the kernel gets.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Dict, Unicode

from edgelab.grading import sandbox, seccomp
from edgelab.grading.limits import Limits


class SandboxProvisioner(LocalProvisioner):
    """Starts a kernel in bubblewrap, and talks to it through sockets in a folder, since it has no network."""

    parent: KernelManager
    environment = Dict(config=True)
    limits = Dict(config=True)
    sockets = Unicode(config=True)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Put the sandbox's command before the kernel's."""
        manager, folder = self.parent, Path(self.sockets)
        folder.mkdir(mode=0o700, exist_ok=True)
        manager.transport = "ipc"  # before the parent class writes the connection file
        manager.ip = str(folder / "k")
        manager.connection_file = str(folder / "connection.json")
        kwargs = await super().pre_launch(**kwargs)
        if (uid := sandbox.free_uid()) is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, uid, uid)
        self._filter = _readable(seccomp.program())
        prefix = sandbox.command(
            Limits(**self.limits),
            environment=self.environment,
            sockets=folder,
            uid=uid,
            filter_fd=self._filter,
        )
        # bubblewrap's own environment could be read in /proc by a kernel of the same user.
        kwargs |= {"cmd": prefix + kwargs["cmd"], "env": {}, "stdin": subprocess.DEVNULL}
        return {**kwargs, "pass_fds": () if self._filter is None else (self._filter,)}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start bubblewrap, which has read the filter's file descriptor by inheriting it."""
        try:
            return await super().launch_kernel(cmd, **kwargs)
        finally:
            if self._filter is not None:
                os.close(self._filter)


def _readable(content: bytes) -> int | None:
    """Return a file descriptor to read `content` from: a pipe, which holds 64 kB before anyone reads."""
    if not content:
        return None
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader
