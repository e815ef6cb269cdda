"""Templates: what of a native job script reaches the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.template import Template, add_header, is_directive, read_template
from mlxp_core.scheduler import load_scheduler

SLURM = load_scheduler("slurm")

NATIVE = """\
#!/bin/bash -l
#SBATCH --time=10
##SBATCH --partition=old
#SBATCH\t--mem=4G   # as text
# a comment

module load python/3.10
export DATA="/a b/$USER"
FOO=bar srun python -u src/main.py lr=1,2 \\
    seed=3
#SBATCH --ignored
echo done
"""


def test_a_native_script_is_taken_apart_byte_for_byte() -> None:
    """Bug: stripped lines, a comment taken for a directive, a directive after the first command taken for one."""
    template = read_template(NATIVE, SLURM, "main.py")
    assert template.shebang == "#!/bin/bash -l"
    assert template.header == ("#SBATCH --time=10", "#SBATCH\t--mem=4G   # as text")
    assert template.setup == (
        "##SBATCH --partition=old",
        "# a comment",
        "",
        "module load python/3.10",
        'export DATA="/a b/$USER"',
    )
    assert template.prefix == "FOO=bar srun "
    assert template.after == ("echo done",)
    assert template.ignored == ("#SBATCH --ignored",)


@pytest.mark.parametrize(
    ("line", "prefix"),
    [
        ("python main.py", ""),
        ("python3.11 -u -W error main.py -m a=1", ""),
        ('"$VENV/bin/python" "$HOME/project/main.py"', ""),
        ("./main.py a=1", ""),
        ("  srun -n 2 python main.py", "srun -n 2 "),
        ("echo python other.py", None),
        ("# python main.py", None),
        ("cp main.py /tmp", None),
        ("test -f main.py && echo 'python main.py is there' # python main.py", None),
        ("FOO='a b' BAR=$X srun -n 2 --label python main.py", "FOO='a b' BAR=$X srun -n 2 --label "),
        ("conda create -n x python=3.10", None),
        ("python main.pyc", None),
    ],
)
def test_the_program_line_is_known_by_the_program_and_not_by_the_word_python(line: str, prefix: str | None) -> None:
    """Bug of MLXP 1.0.5: any line with the word python is the command."""
    template = read_template(f"#!/bin/bash\n{line}\n", SLURM, "main.py")
    if prefix is None:
        assert template.setup == (line,)
    else:
        assert template.setup == ()
        assert template.prefix == prefix


@pytest.mark.parametrize(
    "line",
    [
        'bash -c "python main.py"',
        'apptainer exec img bash -c "cd /x && python main.py"',
        "torchrun --nproc-per-node 2 main.py",
        "uv run main.py",
        "python main.py | tee out.txt",
        "python main.py >out.txt",
        "python main.py &",
        "if [ -f main.py ]; then python main.py; fi",
        "for i in 1 2; do python main.py; done",
        "python main.py 'open quote",
        "python main.py\npython main.py",
    ],
)
def test_a_line_that_names_the_program_and_cannot_be_replaced_is_refused(line: str) -> None:
    """Bug: the program runs from the work tree beside the job, or half a line does: COMPLETE, and nothing was run."""
    with pytest.raises(ConfigurationError, match="not a line that the launcher can replace"):
        read_template(f"#!/bin/bash\n{line}\n", SLURM, "main.py")


def test_a_module_is_found_as_such() -> None:
    """Bug: `python -m pkg.main` of a template left beside the job's own command: the job runs twice."""
    template = read_template("#!/bin/sh\nsrun python -O -m pkg.main a=1\n", SLURM, "pkg.main")
    assert (template.setup, template.prefix) == ((), "srun ")


HERE = """\
#!/bin/bash
#SBATCH --time=1
cat >inner.sh <<'END' && echo $((1 << n)) <<<"<<X"
#SBATCH --time=9
python main.py
END
cat <<-A >a; cat <<B
\t$x it's "open
\tA
srun python main.py
B
python main.py
"""


def test_the_text_of_a_here_document_is_data() -> None:
    """Bug: a line of a script that the job writes is taken for the program, or for a directive that Slurm ignores."""
    template = read_template(HERE, SLURM, "main.py")
    assert template.header == ("#SBATCH --time=1",)
    assert template.setup == tuple(HERE.split("\n")[2:11])
    assert (template.prefix, template.after, template.ignored) == ("", (), ())


def test_a_template_with_dos_line_ends_is_read(tmp_path: Path) -> None:
    r"""Bug: `$'\r': command not found`, and a header that sbatch refuses."""
    template = read_template("#!/bin/bash\r\n#SBATCH --time=1\r\nset -e\r\n", SLURM, "main.py")
    assert (template.header, template.setup) == (("#SBATCH --time=1",), ("set -e",))


def test_another_schedulers_template_is_refused_with_its_launcher() -> None:
    """Bug: a job without any of the resources that the user asked for."""
    with pytest.raises(ConfigurationError, match=r"#PBS -l walltime=1.*\n.*mlxp_torque"):
        read_template("#!/bin/bash\n#PBS -l walltime=1\n", SLURM, "main.py")
    with pytest.raises(ConfigurationError, match=r"# flux: -N 1\n.*mlxp_flux\."):
        read_template("#!/bin/bash\n# flux: -N 1\n", SLURM, "main.py")
    several = read_template("#!/bin/bash\n#PBS -l walltime=1\n#SBATCH --time=1\n", SLURM, "main.py")
    assert several.header == ("#SBATCH --time=1",)


def test_a_template_that_no_shell_runs_is_refused() -> None:
    """Bug: bash lines rendered into a Python or csh script."""
    with pytest.raises(ConfigurationError, match=r"^the template starts with .*python3"):
        read_template("#!/usr/bin/env python3\n", SLURM, "main.py")


@pytest.mark.parametrize(
    ("line", "launchers"),
    [
        ("#PBS -l walltime=1", "mlxp_torque or mlxp_pbs"),
        ("#OAR -l walltime=1", "mlxp_oar"),
        ("#MSUB -l x", "mlxp_mwm"),
        ("#FLUX: -N 1", "mlxp_flux"),
        ("#$ -N x", "mlxp_sge"),
    ],
)
def test_the_launchers_of_a_template_for_another_scheduler_are_named(line: str, launchers: str) -> None:
    """Bug: launchers that would read none of its lines are named, or none at all."""
    with pytest.raises(ConfigurationError) as refused:
        read_template(f"#!/bin/bash\n# a -b\n{line}\n", SLURM, "main.py", source="job.sh")
    assert str(refused.value) == (
        f"job.sh has no #SBATCH line, but\n  {line}\n"
        f"Is it for another scheduler? Its launcher is hydra/launcher={launchers}."
    )
    assert read_template("#!/bin/bash\n# a -b\n#X -l\n", SLURM, "main.py").setup == ("# a -b", "#X -l")


@pytest.mark.parametrize(
    ("lines", "header", "ignored"),
    [
        ("\n \n#SBATCH -n 1\n# x\n\n#SBATCH -n 2", ("#SBATCH -n 1", "#SBATCH -n 2"), ()),
        ("#SBATCH -n 1\nx\n#SBATCH -n 2\n\n#SBATCH -n 3", ("#SBATCH -n 1",), ("#SBATCH -n 2", "#SBATCH -n 3")),
        ("x\n#SBATCH -n 1", (), ("#SBATCH -n 1",)),
        ("cat <<E\n#SBATCH -n 1\nE\n#SBATCH -n 2", (), ("#SBATCH -n 2",)),
        ("# cat <<E\n#SBATCH -n 1\nx", ("#SBATCH -n 1",), ()),
    ],
)
def test_slurm_reads_directives_above_the_first_command(
    lines: str, header: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    """Bug: an option that sbatch does not read taken for one that counts, or a blank line for a command."""
    template = read_template(f"#!/bin/bash\n{lines}\n", SLURM, "main.py")
    assert (template.header, template.ignored) == (header, ignored)


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_line_may_be_the_programs(end: str) -> None:
    """Bug: a last line without an end, or with a backslash at it, is left beside the job's own command."""
    template = read_template(f"echo 1\nsrun python main.py{end}", SLURM, "main.py")
    assert (template.setup, template.prefix, template.after) == (("echo 1",), "srun ", ())
    assert template.shebang == "#!/bin/bash"
    with pytest.raises(ConfigurationError, match="is not a line that the launcher can replace"):
        read_template("echo 1\nsrun python main.py \\", SLURM, "main.py")


def test_comments_are_kept_whatever_is_in_them() -> None:
    """Bug: an apostrophe in a comment takes the lines after it for quoted text, or refuses the template."""
    lines = ("# don't run main.py", "  # it's `python main.py` #'", "#'main.py")
    template = read_template("\n".join(["#!/bin/sh", *lines, "python main.py"]), SLURM, "main.py")
    assert template.setup == lines


def test_a_header_line_that_is_no_directive_is_refused() -> None:
    """Bug: `SBATCH --mem=1G` without its # is a shell command of every job."""
    with pytest.raises(ConfigurationError, match=r"SBATCH --mem=1G\n.*first column"):
        add_header(Template(), "#SBATCH --time=1\n SBATCH --mem=1G", SLURM)
    assert add_header(Template(), "#SBATCH --time=1\n\n", SLURM).header == ("#SBATCH --time=1",)
    assert add_header(Template(header=("#SBATCH -n 1",)), None, SLURM).header == ("#SBATCH -n 1",)


@pytest.mark.parametrize(
    ("scheduler", "line", "is_one"),
    [
        ("slurm", "#SBATCH --time=1", True),
        ("slurm", "#SBATCH--time=1", True),
        ("slurm", "#SBATCH", True),
        ("slurm", "#SBATCHX --time=1", False),
        ("slurm", "#SBATCH1", False),
        ("slurm", "##SBATCH --time=1", False),
        ("slurm", " #SBATCH --time=1", False),
        ("slurm", "#PBS -l x", False),
        ("mwm", "#MSUB -l x", True),
        ("mwm", "#PBS -l x", True),  # which it obeys as well
        ("mwm", "#SBATCH -n 1", False),
        ("torque", "#MSUB -l x", False),
        ("flux", "# flux: -N 1", True),
        ("flux", "#FLUX: -N 1", True),
        ("flux", "#flux -N 1", False),
    ],
)
def test_a_directive_is_known_by_any_of_its_spellings(scheduler: str, line: str, is_one: bool) -> None:
    """Bug: of a scheduler with two prefixes the lines of neither, or a comment, count."""
    assert is_directive(line, load_scheduler(scheduler)) is is_one
