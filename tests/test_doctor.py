"""The doctor, on computers that are not this one: /proc, pins, packages, memory and folders are faked."""

import json
import shlex
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from typer.testing import CliRunner

from edgelab import cli, data, doctor, i18n
from edgelab.doctor import diagnosis, machine, packages
from edgelab.errors import EdgelabError

GB = 10**9
X86 = "processor : 0\nmodel name : Some Xeon\nflags : fpu sse avx2 {}\n\nprocessor : 1\nflags : fpu\n"
ARM = "processor : 0\nBogoMIPS : 108.00\nFeatures : fp asimd {}\n"
KEYS = {"ok", "problems", "warnings", "python", "packages", "cores", "memory", "processor", "data_sets", "folder"}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Return a good computer with 4 cores and 8 GB: a root for `examine`, and what changes its memory and cores.

    torch says nothing of the processor, so that /proc/cpuinfo speaks.
    """
    own = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0))
    monkeypatch.setattr(psutil, "Process", lambda: own)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("EDGELAB_DATASET", raising=False)
    monkeypatch.setattr(machine, "_torch_processor", lambda: ("", set()))
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(diagnosis.os, "getloadavg", lambda: (0.5, 0.5, 0.5), raising=False)
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=9 * GB))

    def memory(total, available=None):
        now = SimpleNamespace(total=total, available=total if available is None else available)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: now)

    def cores(count):
        monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)

    memory(8 * GB)
    cores(4)
    root = write(tmp_path, {"proc/cpuinfo": X86.format("avx512_vnni avx512_bf16")})
    return SimpleNamespace(root=root, memory=memory, cores=cores)


def about(notes) -> set[str]:
    return {note.about for note in notes}


def text_about(notes, word: str) -> str:
    return next(str(note) for note in notes if note.about == word)


def test_a_good_computer_has_nothing_to_report(host):
    report = doctor.examine(host.root)
    assert (report.ok, report.problems, about(report.warnings) - {"versions", "python"}) == (True, (), set())


# Cores


def test_affinity_counts_rather_than_what_the_computer_has(host):
    host.cores(2)
    assert machine.cores(host.root) == machine.Cores(present=4, allowed=2, quota=None)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/cpu.max": "100000 100000",
                "sys/fs/cgroup/pod/box/cpu.max": "300000 100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/0123\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/../elsewhere\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 none", "v2 outer group", "v1 docker", "v1 none", "outside the namespace", "no cgroups"],
)
def test_cpu_quota(host, files, quota):
    assert machine.cores(write(host.root, files)).quota == quota


def test_one_core_is_a_warning(host):
    host.cores(1)
    report = doctor.examine(host.root)
    assert report.ok
    assert "cores" in about(report.warnings)


def test_a_quota_below_the_cores_asks_for_fewer_threads(host, monkeypatch):
    write(host.root, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000"})
    assert "OMP_NUM_THREADS=2" in text_about(doctor.examine(host.root).warnings, "threads")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "threads" not in about(doctor.examine(host.root).warnings)


def test_a_busy_processor_is_a_warning(host, monkeypatch):
    monkeypatch.setattr(diagnosis.os, "getloadavg", lambda: (5.0, 1.0, 1.0), raising=False)
    assert "load" in about(doctor.examine(host.root).warnings)


# Memory


@pytest.mark.parametrize(
    ("files", "limit", "available"),
    [
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "2000000000\n",
                "sys/fs/cgroup/memory.current": "900000000\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100000000\n",
            },
            2 * GB,
            1_200_000_000,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/docker/0123\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 0\n",
            },
            3 * GB,
            2 * GB,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
            8 * GB,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None, 8 * GB),
    ],
    ids=["v2", "v1", "v1 none", "v2 none"],
)
def test_memory_limit(host, files, limit, available):
    assert machine.memory(write(host.root, files)) == machine.Memory(8 * GB, limit, available)


@pytest.mark.parametrize(
    ("total", "available", "problem", "warning"),
    [(1.4, 1.4, True, False), (1.8, 1.7, False, True), (2, 2, False, False), (8, 1.4, False, True)],
    ids=["too little", "little", "as on Binder", "held by others"],
)
def test_what_memory_is_enough(host, total, available, problem, warning):
    host.memory(int(total * GB), int(available * GB))
    report = doctor.examine(host.root)
    assert ("memory" in about(report.problems), "memory" in about(report.warnings)) == (problem, warning)
    assert report.ok is not problem


# Instruction sets


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "instructions", "slow"),
    [
        (X86.format("avx_vnni"), "x86_64", ("AVX2", "AVX-VNNI"), {"bfloat16"}),
        (X86.format("amx_int8 amx_bf16"), "x86_64", ("AVX2", "AMX int8", "AMX bf16"), set()),
        (X86.format(""), "x86_64", ("AVX2",), {"int8", "bfloat16"}),
        (X86.format("").replace("avx2", ""), "x86_64", (), {"avx2", "int8", "bfloat16"}),
        (ARM.format("asimddp"), "aarch64", ("NEON dotprod",), {"bfloat16"}),
        (ARM.format("asimddp i8mm bf16"), "aarch64", ("NEON dotprod", "NEON i8mm", "NEON bf16"), set()),
        (ARM.format(""), "aarch64", (), {"int8", "bfloat16"}),
        ("", "riscv64", None, set()),
    ],
    ids=["AVX-VNNI", "AMX", "AVX2 only", "no AVX2", "Cortex-A76", "Neoverse V2", "Cortex-A72", "nothing tells"],
)
def test_instructions_from_proc(host, monkeypatch, cpuinfo, architecture, instructions, slow):
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    report = doctor.examine(write(host.root, {"proc/cpuinfo": cpuinfo}))
    assert report.processor.instructions == instructions
    assert about(report.warnings) - {"versions", "python"} == slow
    assert report.ok


def test_instructions_from_macos(host, monkeypatch):
    output = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\nmachdep.cpu.brand_string: Apple M1\n"
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=output))
    found = machine.processor(write(host.root, {"proc/cpuinfo": ""}))
    assert (found.name, found.instructions) == ("Apple M1", ("NEON dotprod",))


def test_torch_and_proc_agree_on_this_computer():
    name, words = machine._torch_processor()
    linux_words = machine._linux_processor(machine.ROOT)[1]
    if not linux_words:
        pytest.skip("no /proc/cpuinfo here")
    assert name
    for instruction in ("AVX2", "AVX512-VNNI", "AVX512-BF16", "NEON dotprod", "NEON i8mm"):
        spellings = machine._SPELLINGS[instruction]
        assert bool(spellings & words) == bool(spellings & linux_words), instruction


# Packages


def test_what_labs_need_is_what_the_package_requires():
    names = set(packages.required())
    assert {"torch", "onnxruntime", "jupyterlab", "ipywidgets"} <= names
    assert names.isdisjoint({"pytest", "polib", "playwright"})


def test_every_required_package_is_pinned():
    assert all(package.pin for package in packages.packages())


def test_pins_are_read_whatever_the_spelling_of_a_name(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("# pins\nruamel.yaml==0.19.1\nTorch==2.13.0  # CPU\n\n")
    assert packages.read_pins(path) == {"ruamel-yaml": "0.19.1", "torch": "2.13.0"}


def test_of_two_pins_the_one_for_this_python_counts(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("tqdm==1 ; python_version < '3.11'\ntqdm==2 ; python_version >= '3.11'\nzipp==4 ; os_name == 'x'\n")
    assert packages.read_pins(path) == {"tqdm": "2"}


def test_pins_are_found_in_an_installed_package_and_in_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.edgelab, "__file__", str(tmp_path / "edgelab" / "__init__.py"))
    assert packages.find_pins() is None
    write(tmp_path, {"constraints.txt": "", "edgelab/__init__.py": ""})
    assert packages.find_pins() == tmp_path / "constraints.txt"
    write(tmp_path, {"edgelab/constraints.txt": ""})
    assert packages.find_pins() == tmp_path / "edgelab" / "constraints.txt"


@pytest.mark.parametrize(
    ("version", "pin", "differs"),
    [("2.13.0+cpu", "2.13.0", False), ("2.14.0", "2.13.0", True), ("2.14.0", None, False), (None, "2.13.0", False)],
    ids=["a build of the pin", "another version", "no pin", "missing"],
)
def test_what_differs_from_its_pin(version, pin, differs):
    assert packages.Package("torch", version, pin).differs is differs


def test_other_versions_are_a_warning_with_the_command_that_cures(host, monkeypatch, tmp_path):
    pins = write(tmp_path, {"some where/constraints.txt": "tqdm==0.0.1\n"}) / "some where/constraints.txt"
    monkeypatch.setattr(packages, "find_pins", lambda: pins)
    report = doctor.examine(host.root)
    text = text_about(report.warnings, "versions")
    assert report.ok
    assert f"tqdm {metadata.version('tqdm')} instead of 0.0.1" in text
    assert text.endswith(f"-m pip install -c '{pins}' tqdm")


def test_no_pins_is_a_warning(host, monkeypatch):
    for module in (packages, diagnosis):
        monkeypatch.setattr(module, "find_pins", lambda: None)
    report = doctor.examine(host.root)
    assert "versions were not compared" in text_about(report.warnings, "versions")
    assert report.ok


def test_a_missing_package_is_a_problem_with_the_command_that_cures(host, monkeypatch):
    monkeypatch.setattr(packages, "required", lambda: ("numpy", "no-such-package"))
    report = doctor.examine(host.root)
    assert not report.ok
    text = text_about(report.problems, "packages")
    assert text.startswith("Missing packages: no-such-package. Run: ")
    assert text.endswith(shlex.join([str(packages.find_pins()), "no-such-package"]))


def test_a_package_that_cannot_be_imported_is_a_problem(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = text_about(doctor.examine(host.root).problems, "packages")
    assert text.startswith("onnxruntime is installed but cannot be imported: ")
    assert "--force-reinstall" in text


def test_edgelab_that_is_not_installed_is_one_sentence(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    with pytest.raises(EdgelabError, match="edgelab is not installed"):
        packages.required()


@pytest.mark.parametrize(
    ("running", "problem", "warning"),
    [((3, 10, 1), True, False), ((3, 11, 9), False, False), ((3, 14, 0), False, True)],
    ids=["too old", "tested", "newer"],
)
def test_python_version(monkeypatch, running, problem, warning):
    monkeypatch.setattr(diagnosis.sys, "version_info", running)
    assert ("python" in about(diagnosis._python_problems())) is problem
    assert ("python" in about(diagnosis._version_warnings(()))) is warning


# Data sets and folders


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Set what `data.available()` finds: a cache of signs, and no other data set."""
    cache = write(tmp_path, {"cache/signs.npz": ""}) / "cache" / "signs.npz"
    found = {"signs": cache, "fashion-mnist": None}
    monkeypatch.setattr(data, "available", lambda: found)
    return found


@pytest.mark.parametrize(
    ("chosen", "problem", "warning"),
    [
        ("", False, False),
        ("signs", False, False),
        ("fashion-mnist", False, True),
        ("/no/such/folder", True, False),
        (".", False, True),
        ("adopted", False, False),
    ],
    ids=["none", "here", "to download", "no folder", "a folder without models", "an adopted folder"],
)
def test_the_data_set_that_was_asked_for(host, monkeypatch, places, chosen, problem, warning):
    monkeypatch.setenv("EDGELAB_DATASET", chosen)
    write(host.root, {"adopted/edgelab/manifest.json": "{}"})
    monkeypatch.chdir(host.root)
    report = doctor.examine(host.root)
    assert ("data" in about(report.problems), "data" in about(report.warnings)) == (problem, warning)


def test_missing_templates_are_a_problem(host, monkeypatch):
    def damaged():
        raise EdgelabError("gone")

    monkeypatch.setattr(data, "available", damaged)
    assert "Install edgelab again." in text_about(doctor.examine(host.root).problems, "data")


@pytest.fixture
def read_only(monkeypatch):
    """Return a list; the folders in it cannot be written, as a user who is not root would find them."""
    folders: list[Path] = []
    real = tempfile.TemporaryFile

    def temporary_file(*args, dir=None, **options):
        if dir in folders:
            raise PermissionError(13, "Permission denied")
        return real(*args, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    return folders


def test_a_read_only_working_folder_is_a_problem(host, read_only, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    read_only.append(Path.cwd())
    text = text_about(doctor.examine(host.root).problems, "folder")
    assert "(Permission denied)" in text
    assert text.endswith("Start the labs in a folder of your own.")


def test_a_read_only_state_folder_above_is_a_problem(host, read_only, monkeypatch, tmp_path):
    (tmp_path / ".edgelab").mkdir()
    (tmp_path / "es").mkdir()
    monkeypatch.chdir(tmp_path / "es")
    read_only.append(Path.cwd().parent / ".edgelab")
    assert f"{read_only[0]} cannot be written" in text_about(doctor.examine(host.root).problems, "folder")


def test_a_working_folder_that_is_gone_is_a_problem(monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", gone)
    folder, problems, warnings = diagnosis._working_folder()
    assert (folder, about(problems), warnings) == (".", {"folder"}, [])


def test_an_almost_full_disk_is_a_warning(host, monkeypatch):
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=GB // 10))
    report = doctor.examine(host.root)
    assert report.ok
    assert "0.1 GB are left" in text_about(report.warnings, "disk")


@pytest.mark.parametrize("drawn", [True, False], ids=["signs drawn", "signs to draw"])
def test_a_read_only_cache_is_a_problem_only_while_signs_are_to_be_drawn(host, places, read_only, monkeypatch, drawn):
    cache = places["signs"].parent
    monkeypatch.setenv("EDGELAB_DATA", str(cache / "not" / "yet" / "there"))
    read_only.append(cache)
    if not drawn:
        places["signs"] = cache
    assert ("data" in about(doctor.examine(host.root).problems)) is not drawn


def test_examine_leaves_nothing_behind(host, monkeypatch, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGELAB_DATA", str(folder / "cache"))
    assert doctor.examine(host.root).folder == str(Path.cwd())
    assert list(folder.iterdir()) == []


# What is shown


def test_json_keys_are_stable_and_values_plain(host):
    shown = json.loads(json.dumps(doctor.as_dict(doctor.examine(host.root))))
    assert shown.keys() == KEYS
    assert shown["packages"]["torch"].keys() == {"version", "pin", "failure"}
    assert shown["cores"] == {"present": 4, "allowed": 4, "quota": None, "usable": 4}
    assert shown["memory"].keys() == {"present_bytes", "limit_bytes", "total_bytes", "available_bytes"}
    assert shown["processor"]["instructions"] == ["AVX2", "AVX512-VNNI", "AVX512-BF16"]
    assert shown["data_sets"].keys() == set(data.NAMES)


def test_summary_is_in_spanish_where_spanish_is_asked_for(host, monkeypatch):
    report = doctor.examine(host.root)
    english = dict(doctor.summary(report))
    assert english["memory"] == "8.0 GB, 8.0 GB of it free for a lab"
    assert english["bfloat16 instructions"] == "AVX512-BF16"
    monkeypatch.setenv("EDGELAB_LANG", "es")
    i18n.forget()
    try:
        spanish = dict(doctor.summary(report))
    finally:
        i18n.forget()
    assert spanish["memoria"] == "8.0 GB, de ellos 8.0 GB libres para un lab"
    assert len(spanish) == len(english)


@pytest.fixture
def run(host, monkeypatch):
    """Run `edgelab doctor` on the faked computer."""
    monkeypatch.setattr(doctor, "examine", lambda: diagnosis.examine(host.root))
    return lambda *words: CliRunner().invoke(cli.app, ["doctor", *words], prog_name="edgelab")


def test_the_command_passes_on_a_good_computer(run):
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.endswith("Every lab can run here.\n")


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_the_command_fails_where_a_lab_could_not_run(run, host, words):
    host.memory(GB)
    result = run(*words)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "There are 1.0 GB of memory, and a lab may need 1.5 GB." in result.output
    assert "Use a computer or a container with at least 2 GB." in result.output
    if words:
        assert json.loads(result.output)["problems"][0]["about"] == "memory"


def test_a_command_to_copy_stays_on_one_line_and_brackets_are_shown(run, monkeypatch, tmp_path):
    long = tmp_path / "[bold]" / ("x" * 120) / "constraints.txt"
    monkeypatch.setattr(packages, "find_pins", lambda: long)
    monkeypatch.setattr(packages, "read_pins", lambda path: {"tqdm": "0"})
    assert f"-c '{long}' tqdm\n" in run().output


def test_a_computer_without_torch_or_psutil_is_told_so_without_a_traceback(tmp_path):
    code = (
        "import sys; from importlib import metadata; real = metadata.version\n"
        "gone = {'torch', 'torchvision', 'psutil'}\n"
        "sys.modules.update(dict.fromkeys(gone))\n"
        "def version(name):\n"
        "    if name in gone: raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
        "from edgelab import cli; sys.argv = ['edgelab', 'doctor']; cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Missing packages: psutil, torch, torchvision. Run: " in done.stdout


def test_import_is_light():
    code = "import sys, edgelab.doctor; print(sorted({'torch', 'psutil', 'rich', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_cure_is_one_sentence(host, monkeypatch, places):
    write(host.root, {"proc/cpuinfo": X86.format("").replace("avx2", "")})
    host.memory(GB)
    host.cores(1)
    monkeypatch.setenv("EDGELAB_DATASET", "/no/such")
    report = doctor.examine(host.root)
    notes = [note for note in (*report.problems, *report.warnings) if note.about not in ("versions", "python")]
    assert about(notes) == {"memory", "data", "cores", "avx2", "int8", "bfloat16"}
    for note in notes:
        assert note.cure.endswith(".")
        assert ". " not in note.cure
