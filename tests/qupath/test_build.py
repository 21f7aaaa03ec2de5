"""The jar and the script: what they are made of, and the script run as QuPath runs it."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from isoline.client import Client
from tests.qupath import building as qupath
from tests.qupath.building import PLUGIN, Build
from tests.qupath.test_client import OBJECTS, REGION, URI
from tests.serving import serving
from tests.slides import Shapes

Member: TypeAlias = tuple[str, str, str]
JAVA_17 = 61
OURS = "isoline/qupath/"
OTHERS = ("java/", "javax/", "javafx/", "com/google/gson/", "qupath/lib/", OURS)


@pytest.fixture(scope="module")
def build() -> Build:
    return qupath.built()


def listed() -> set[Member]:
    """What API.md says is used, (class, member, descriptor)."""
    table = (PLUGIN / "API.md").read_text()
    rows = re.findall(r"^\| `(\S+)` \| `(\S+)` \| `(\S+)` \|", table, re.MULTILINE)
    return {(owner.replace(".", "/"), name, descriptor) for owner, name, descriptor in rows}


def disassembled(classes: list[Path]) -> str:
    command = ["javap", "-v", "-p", *map(str, classes)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def used(code: str) -> set[Member]:
    reference = r'= (?:Interface)?(?:Method|Field)ref\s+\S+\s+// ([\w/$]+)\."?([\w<>$]+)"?:(\S+)'
    found = re.findall(reference, code)
    return {(owner, name, kind) for owner, name, kind in found if owner.startswith("qupath/")}


def declared(build: Build) -> set[Member]:
    """What the stubs declare and do not say is not of QuPath."""
    stubs = build.directory / "stubs"
    members = set()
    member = re.compile(r"^  \S.*?(\w+)\(.*\).*;\n    descriptor: (\S+)", re.MULTILINE)
    for code in disassembled(sorted(stubs.rglob("*.class"))).split("Classfile ")[1:]:
        path = Path(code.split("\n", 1)[0])
        owner = path.relative_to(stubs).with_suffix("").as_posix()
        source = PLUGIN / "stubs" / "src" / f"{owner.split('$')[0]}.java"
        own = re.findall(r"Not of QuPath[^;{]*?(\w+)(?:;| =|\()", source.read_text())
        for name, kind in member.findall(code):
            if name not in own:
                members.add((owner, "<init>" if name == owner.split("/")[-1] else name, kind))
        if "ACC_ENUM" in code:
            members.add((owner, "name", "()Ljava/lang/String;"))
    return members


@pytest.fixture(scope="module")
def jar_code(build: Build) -> str:
    return disassembled(sorted((build.directory / "classes").rglob("*.class")))


@pytest.fixture(scope="module")
def script_code(build: Build) -> str:
    return disassembled(sorted((build.directory / "script").glob("*.class")))


def test_nothing_of_qupath_is_used_that_is_not_listed(
    build: Build, jar_code: str, script_code: str
) -> None:
    assert used(jar_code) | used(script_code) == listed()
    assert used(jar_code) <= declared(build)
    assert used(script_code) <= declared(build)


def test_the_jar_needs_only_java_17_and_what_qupath_ships(jar_code: str) -> None:
    assert set(re.findall(r"major version: (\d+)", jar_code)) == {str(JAVA_17)}
    classes = re.findall(r"= Class\s+\S+\s+// \"?\[*L?([\w/$]+)", jar_code)
    foreign = {name for name in classes if not name.startswith(OTHERS) and "/" in name}
    assert not foreign


def test_the_head_of_the_script_uses_only_what_is_listed() -> None:
    main = (PLUGIN / "script" / "main.groovy").read_text()
    api = (PLUGIN / "API.md").read_text()
    calls = re.findall(r"\b(?:gui|viewer|image|QuPathGUI|QP)\.(\w+)\(", main)
    assert len(calls) > 5
    for call in calls:
        assert f"`{call}`" in api or f"{call}()" in api, call


def test_the_build_gives_the_same_bytes_each_time(build: Build, tmp_path: Path) -> None:
    subprocess.run([PLUGIN / "build", tmp_path / "again"], check=True, capture_output=True)
    for name in ("isoline-qupath.jar", "isoline.groovy"):
        assert (tmp_path / "again" / name).read_bytes() == (build.directory / name).read_bytes()


def test_the_script_in_the_repository_is_the_one_that_is_built(build: Build) -> None:
    """If this fails: plugins/qupath/build DIR, then copy DIR/isoline.groovy to plugins/qupath."""
    assert (PLUGIN / "isoline.groovy").read_text() == build.script.read_text()


def test_qupath_finds_the_extension(build: Build) -> None:
    with zipfile.ZipFile(build.jar) as jar:
        service = "META-INF/services/qupath.lib.gui.extensions.QuPathExtension"
        assert jar.read(service).decode().strip() == "isoline.qupath.IsolineExtension"
        assert "META-INF/LICENSE" in jar.namelist()
        assert not [name for name in jar.namelist() if name.startswith("qupath/")]


# No line of a class may begin with an operator that Java takes as the rest of the line before:
# Groovy ends the statement there and says nothing.
@pytest.mark.parametrize("path", sorted((PLUGIN / "src").rglob("*.java")), ids=lambda p: p.name)
def test_java_reads_the_same_in_groovy(path: Path) -> None:
    lines = [
        line for line in path.read_text().splitlines() if not re.match(r"\s+(?:/?\*|//)", line)
    ]
    assert not [line for line in lines if re.match(r"\s+[+-] ", line)]
    assert not [line for line in lines if re.search(r"'.'|\$", line) and '"' not in line]
    decimals = [line for line in lines if re.search(r"(?<![\w.\"])\d+(?:\.\d+|e\d+)(?!d)\b", line)]
    assert not [line for line in decimals if '"' not in line]


def test_codenarc_finds_nothing_in_the_head_of_the_script(build: Build, tmp_path: Path) -> None:
    rules = "".join(
        f"<ruleset-ref path='rulesets/{name}.xml'/>" for name in ("basic", "imports", "unused")
    )
    head = "<ruleset xmlns='http://codenarc.org/ruleset/1.0'>"
    (tmp_path / "rules.xml").write_text(f"{head}{rules}</ruleset>")
    (tmp_path / "main.groovy").write_text((PLUGIN / "script" / "main.groovy").read_text())
    classpath = [*sorted(build.groovy.glob("*.jar")), *build.libraries]
    said = build.java(
        classpath,
        "org.codenarc.CodeNarc",
        f"-basedir={tmp_path}",
        "-includes=main.groovy",
        f"-rulesetfiles=file:{tmp_path}/rules.xml",
        "-report=console",
    )
    assert re.search(r"TotalFiles=1 .*P1=0 P2=0 P3=0", said), said


class TestScript:
    """isoline.groovy, run headless with arguments."""

    @pytest.fixture(scope="class")
    def server(self, disk_slide: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        more = "[file_uris]\n'S:\\scans' = 'slides'\n"
        data = tmp_path_factory.mktemp("data")
        with serving(disk_slide.path.parent, data, more=more, token="secret") as url:
            yield url

    def script(self, build: Build, *words: str) -> str:
        asked: dict[str, Any] = {"uri": URI, "size": [6007, 5003], "um": 0.25, "region": REGION}
        run = str(PLUGIN / "test" / "script.groovy")
        classpath = build.harness("java")
        script = str(PLUGIN / "isoline.groovy")
        main = "groovy.ui.GroovyMain"
        return build.java(classpath, main, run, script, json.dumps(asked), *words)

    def test_it_runs_and_records_a_step_that_runs_it_again(self, build: Build, server: str) -> None:
        parameters = json.dumps(OBJECTS["parameters"])
        words = ["--server", server, "--token", "secret", "--model", "threshold"]
        said = self.script(build, *words, "--parameters", parameters, "--objects", "annotations")
        found = int(re.findall(r"objects: (\d+)", said)[0])
        assert found > 100
        assert f"Done. {found} objects" in said
        (step,) = re.findall(r"step: (.*)", said)
        assert step.startswith("run(new File('")
        assert "'--parameters', '{\"below\":200}'" in step
        assert "secret" not in step
        jobs = Client(server, "secret").jobs()
        assert [job["image"] for job in jobs] == [URI]

    def test_all_arguments_may_come_as_one_word(self, build: Build, server: str) -> None:
        words = f'--server {server} --token secret --model threshold --parameters {{"below": 200}}'
        assert re.search(r"objects: \d{3,}", self.script(build, words))

    def test_without_a_model_it_lists_what_there_is(self, build: Build, server: str) -> None:
        said = self.script(build, "--server", server, "--token", "secret")
        assert "threshold: Pixels darker" in said
        assert '"name":"below"' in said

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--modell", "nuclei"], "--modell: the arguments are --server"),
            (["--model"], "--model: the arguments are"),
            (["--model", "nuclei", "--objects", "all"], "--objects must be one of selected"),
            (["--model", "nuclei", "--server", "{server}"], "requires a token"),
        ],
    )
    def test_mistakes_are_said(
        self, build: Build, server: str, words: list[str], complaint: str
    ) -> None:
        said = self.script(build, *(word.format(server=server) for word in words))
        assert complaint in said
        assert "objects: 0" in said
