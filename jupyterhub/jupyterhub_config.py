"""A JupyterHub to try the course with, on this computer alone: any name, one password, no account on the system.

It keeps learners' browsers apart, and no more: all servers run as the user who started the hub, so code in one
learner's kernel can read another's files. For a class, see README.md beside this file.
"""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821  # JupyterHub defines these two
load_subconfig("labs.py", path=str(Path(__file__).parent))  # noqa: F821

folder = Path(os.environ.get("EDGELAB_HUB", "hub")).resolve()
password = os.environ.get("EDGELAB_HUB_PASSWORD", "")
if len(password) < 8:
    sys.exit("Choose the learners' password, of 8 characters or more: EDGELAB_HUB_PASSWORD=... jupyterhub -f ...")
folder.mkdir(mode=0o700, parents=True, exist_ok=True)

c.JupyterHub.bind_url = os.environ.get("EDGELAB_HUB_URL", "http://127.0.0.1:8000")
c.JupyterHub.db_url = f"sqlite:///{folder / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
# The proxy in Python hands on a reply when it is whole. The page that waits for a server gets its reply when that has
# started, which must be allowed to take longer than this proxy's 20 seconds.
c.ConfigurableHTTPProxy.command = ["configurable-http-proxy", "--proxy-timeout=300000"]
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = password
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(folder / "homes" / "{username}")
# The programs of this environment: edgelab, jupyterhub-singleuser, configurable-http-proxy.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
