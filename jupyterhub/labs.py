"""What any JupyterHub needs for the course: before a learner's server starts, the labs are copied into their home.

The labs lie in the installed package, which learners can read and not change. `edgelab lab --copy` copies what is new
or, untouched, outdated; a notebook that a learner has changed is never overwritten. It runs as the learner, so the
copies are theirs.

On The Littlest JupyterHub this file is all there is to configure; `jupyterhub_config.py` is a hub to try it with.
"""

c = get_config()  # noqa: F821  # JupyterHub defines it

FOLDER = "edge-labs"
# A disk that is full must not keep anybody from their server, where they can make room. So it starts in any case.
START = f'mkdir -p "$HOME/{FOLDER}"; edgelab lab --copy "$HOME/{FOLDER}"; exec jupyterhub-singleuser "$@"'

c.Spawner.cmd = ["bash", "-c", START, "start-labs"]
c.Spawner.notebook_dir = f"~/{FOLDER}"
c.Spawner.default_url = "/lab/tree/index.md"  # in Spanish: /lab/tree/es/index.md
# A class starts at the same minute, each with a copy of two dozen notebooks; JupyterHub would wait half a minute.
c.Spawner.start_timeout = c.Spawner.http_timeout = 180
# Threads that wait shall sleep: a class shares the processors. A kernel that imports torch first needs it from here.
c.Spawner.environment = {"OMP_WAIT_POLICY": "PASSIVE"}
