"""Hidden cells for labs 00 and 01: {lab: {name of the check they follow: text}}. `apply(path)` inserts them."""
import re
CELLS = {
"00_start": {
"percentile-check": '''# %% percentile-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "percentile")
hidden.show(
    [percentile([rng.uniform(1, 9) for _ in range(size)], rng.uniform(0, 100)) for size in (1, 2, 5, 30) for _ in range(5)],
    [percentile([7.5, 1.25, 3.0], q) for q in (0, 50, 100)],
)
''',
"stopwatch-check": '''# %% stopwatch-hidden tags=["hidden"]
# A clock of our own makes the times exact, and the same on every computer.
from edgelab.course import hidden

rng = hidden.rng(SEED, "stopwatch")
now, durations = [100.0], [rng.uniform(0.001, 0.02) for _ in range(60)]
real_clock = time.perf_counter


def timed_run(calls=iter(durations)):
    now[0] += next(calls)


time.perf_counter = perf_counter = lambda: now[0]
try:
    hidden.show(stopwatch(timed_run, 5, 20), stopwatch(timed_run, 0, 3), round(now[0], 9), tolerance=1e-6)
finally:
    time.perf_counter = perf_counter = real_clock
''',
"verdict-check": '''# %% verdict-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "verdict")
centres = [rng.uniform(0.8, 1.25) for _ in range(40)]
hidden.show([verdict(centre - 0.02, centre + rng.uniform(0, 0.05), rng.uniform(1.01, 1.1)) for centre in centres])
''',
},
"01_edge_budget": {
"weight-bytes-check": '''# %% weight-bytes-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "weight-bytes")
hidden.show([weight_bytes(rng.randrange(1, 10**6), rng.choice((1, 2, 3, 4, 8, 16, 32))) for _ in range(40)])
''',
"conv-macs-check": '''# %% conv-macs-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "conv-macs")
shapes = [
    (8 * rng.randrange(1, 9), 8 * rng.randrange(1, 9), rng.choice((1, 3, 5)), rng.randrange(5, 40), rng.randrange(5, 40))
    for _ in range(10)
]
hidden.show([conv_macs(*shape) for shape in shapes], [conv_macs(*shape, groups) for shape in shapes for groups in (2, 4, 8)])
''',
"inference-energy-check": '''# %% inference-energy-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "inference-energy")
hidden.show(
    [inference_energy(rng.uniform(1e5, 1e9), rng.uniform(1e3, 1e8), rng.uniform(0.1, 9), rng.uniform(50, 300)) for _ in range(20)]
)
''',
"edge-or-cloud-check": '''# %% edge-or-cloud-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "edge-or-cloud")
radios = [(rng.uniform(1_000, 50_000), rng.uniform(1e-9, 1e-6)) for _ in range(30)]
hidden.show([edge_or_cloud(8 * size * bit * rng.uniform(0.1, 3), size, bit) for size, bit in radios])
''',
},
}
def apply(path):
    text = path.read_text()
    for after, cell in CELLS[path.stem].items():
        blocks = re.split(r"(?m)^(?=# %%)", text)
        place = next(i for i, block in enumerate(blocks) if block.startswith(f"# %% {after} "))
        blocks.insert(place + 1, cell + "\n")
        text = "".join(blocks)
    path.write_text(text)
