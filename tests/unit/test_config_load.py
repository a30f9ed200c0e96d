"""The configuration file: what is read, and what a person is told when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdcflow.config import Config, load
from cdcflow.errors import ConfigError

MINIMAL = """\
pipeline: shop
source: {url: "postgresql://repl@db1:5432/shop"}
target: {url: "postgresql://app@db2/warehouse"}
tables: [{match: "public.*"}]
"""


def written(folder: Path, text: str, name: str = "cdcflow.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def loaded(folder: Path, text: str, **environ: str) -> Config:
    return load(written(folder, text), environ)


def refusal(folder: Path, text: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environ)
    error = caught.value
    error.at = error.at.removeprefix(f"{folder}/")
    error.why = error.why.replace(f"{folder}/", "")
    return error


def with_line(line: str) -> str:
    return MINIMAL + line + "\n"


def with_url(side: str, url: str) -> str:
    """Write the configuration with one side's URL, on line 3."""
    other = {"source": "target", "target": "source"}[side]
    return f"""\
pipeline: shop
{side}:
  url: {url}
{other}: {{url: "postgresql://db/x"}}
tables: [{{match: "public.*"}}]
"""


def test_minimal_configuration_has_the_documented_defaults(tmp_path: Path):
    config = loaded(tmp_path, MINIMAL)
    assert (config.pipeline, config.memory, config.http) == ("shop", 256_000_000, None)
    assert (config.batch.max_rows, config.batch.max_bytes, config.batch.max_delay) == (50_000, 64_000_000, 0.0)
    assert (config.source.scheme, config.source.address) == ("postgresql", "postgresql://db1:5432/shop")
    assert config.target.options.model_dump()["url"] == "postgresql://app@db2/warehouse"
    assert config.context.pipeline == "shop"
    assert config.context.memory_bytes == 256_000_000


def test_every_key_is_read(tmp_path: Path):
    config = loaded(
        tmp_path,
        with_line("batch: {max_rows: 5, max_bytes: 1MiB, max_delay: 1.5s}\nmemory: 1GB\nhttp: {listen: '[::1]:9187'}"),
    )
    assert (config.batch.max_rows, config.batch.max_bytes, config.batch.max_delay) == (5, 1048576, 1.5)
    assert config.memory == 10**9
    assert config.http is not None
    assert config.http.listen == "[::1]:9187"


def test_rules_file_stands_beside_the_configuration_wherever_the_command_runs(tmp_path: Path, monkeypatch):
    monkeypatch.chdir("/")
    written(tmp_path, 'tables: [{match: "sales.*"}]', "r.yaml")
    config = loaded(tmp_path, MINIMAL.replace('tables: [{match: "public.*"}]', "rules: r.yaml"))
    assert config.rules.rules[0].pattern.text == "sales.*"


def test_inline_rules_have_defaults_and_places(tmp_path: Path):
    config = loaded(tmp_path, with_line("defaults: {on_delete: soft}"))
    assert config.rules.defaults.on_delete == "soft"
    assert str(config.rules.rules[0].place("match")) == f"{tmp_path}/cdcflow.yaml:4:11"


def test_typo_in_inline_rules_has_its_place_in_this_file(tmp_path: Path):
    error = refusal(tmp_path, MINIMAL.replace("match", "mtch"))
    assert (error.what, error.at, error.do) == ('unknown key "mtch"', "cdcflow.yaml:4:11", 'did you mean "match"?')


def test_missing_configuration_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "cdcflow.yaml", {})
    assert caught.value.what == f"file not found: {tmp_path}/cdcflow.yaml"
    assert "cdcflow init" in caught.value.do
    assert caught.value.exit_code == 2


def test_missing_rules_file_is_named(tmp_path: Path):
    error = refusal(tmp_path, MINIMAL.replace('tables: [{match: "public.*"}]', "rules: r.yaml"))
    assert error.what == f"file not found: {tmp_path}/r.yaml"


@pytest.mark.parametrize(
    ("line", "said", "do"),
    [
        ("memry: 1GB", 'unknown key "memry"', 'did you mean "memory"?'),
        ("memory: 1 zebra", '"memory" must be a size, like 64MB or 1GiB', ""),
        ("memory: true", '"memory" must be a size, like 64MB or 1GiB', ""),
        ("memory: 1MB", '"memory" must be at least 32MB', ""),
        ("memory:", '"memory" has no value', "give it one, or remove the key"),
        ("batch: {max_row: 1}", 'unknown key "max_row"', 'did you mean "max_rows"?'),
        ("batch: {max_rows: 0}", '"batch.max_rows" must be at least 1, not 0', ""),
        ("batch: {max_rows: many}", '"batch.max_rows" must be a whole number, not "many"', ""),
        ("batch: {max_delay: 5}", '"batch.max_delay" must be a duration, like 500ms, 5s or 1h', ""),
        (
            "batch: {max_bytes: 1GB}",
            '"batch.max_bytes" (1000000000) is more than "memory" (256000000)',
            "make it a quarter of memory, or leave it out",
        ),
        ("http: {listen: 9187}", '"http.listen" must be text, not 9187', ""),
        ("http: {listen: nowhere}", '"http.listen" must be address:port', "listen: 127.0.0.1:9187"),
        ("http: {listen: 'a:70000'}", '"http.listen" must be address:port', "listen: 127.0.0.1:9187"),
        ("http: {}", '"listen" is missing', "add `listen:`"),
        ("http: yes please", '"http" must be a mapping of keys, not "yes please"', ""),
        ("rules: rules.yaml", '"tables" and "rules" are both there', "keep one of them"),
        ("state: {url: 'sqlite:///x'}", '"state" has no use with this target', "remove it"),
    ],
)
def test_wrong_value_says_what_would_be_right(tmp_path: Path, line, said, do):
    error = refusal(tmp_path, with_line(line))
    assert (error.what, error.do) == (said, do)
    assert error.at.startswith("cdcflow.yaml:")


@pytest.mark.parametrize(
    ("pipeline", "do"),
    [("My Shop!", "pipeline: my_shop"), ("ü", "pipeline: shop"), ("a" * 41, "pipeline: " + "a" * 40)],
)
def test_pipeline_name_that_no_slot_can_have_is_refused_with_one_that_can(tmp_path: Path, pipeline, do):
    error = refusal(tmp_path, MINIMAL.replace("pipeline: shop", f"pipeline: '{pipeline}'"))
    assert (error.what, error.do) == ('"pipeline" must be 1 to 40 characters of a-z, 0-9 and _', do)
    assert error.at == "cdcflow.yaml:1:11"


@pytest.mark.parametrize("key", ["pipeline", "source", "target"])
def test_missing_key_is_named(tmp_path: Path, key):
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(key)]
    error = refusal(tmp_path, "\n".join(lines))
    assert error.what == f'"{key}" is missing'
    assert error.do.startswith(f"add `{key}: ")


def test_configuration_without_rules_says_where_they_may_be(tmp_path: Path):
    error = refusal(tmp_path, "\n".join(MINIMAL.splitlines()[:3]))
    assert error.what == '"rules" is missing'
    assert error.do == "add `rules: rules.yaml`, or the rules themselves under `tables:`"


@pytest.mark.parametrize("url", ["kafka://b1:9092,b2", "amqp://mq"])
def test_a_bus_gets_every_table_where_no_rules_are_given(tmp_path: Path, url):
    two = "\n".join(MINIMAL.splitlines()[:2])
    config = loaded(tmp_path, f"{two}\ntarget: {{url: '{url}'}}\ndefaults: {{on_delete: soft}}")
    assert config.every_table
    assert [rule.pattern.text for rule in config.rules.rules] == ["*"]
    assert config.rules.defaults.on_delete == "soft"
    assert not loaded(tmp_path, f"{two}\ntarget: {{url: '{url}'}}\ntables: [{{match: 'a.b'}}]").every_table
    out_of_it = f"pipeline: x\nsource: {{url: '{url}', {'topics: [a], ' * url.startswith('k')}}}\n"
    error = refusal(tmp_path, out_of_it + "target: {url: 'postgresql://db/x'}")
    assert error.what == '"rules" is missing'


def test_defaults_beside_a_rules_file_are_sent_there(tmp_path: Path):
    text = "\n".join(MINIMAL.splitlines()[:3]) + "\nrules: r.yaml\ndefaults: {on_delete: soft}"
    error = refusal(tmp_path, text)
    assert (error.what, error.do) == ('"defaults" belongs beside "tables"', "move it into r.yaml")


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracle://db/x", "unsupported {side} URL scheme oracle://"),
        ("postgres//db/x", '"{side}.url" is not a URL'),
        ("postgresql://u:hunter 2@db/x", '"{side}.url" cannot be parsed: it holds a space or a control character'),
        ("postgresql://u:hunter@2@db/x", '"{side}.url" cannot be parsed: there is more than one @ before the host'),
        ("postgresql://u:hunter/2@db/x", '"{side}.url" cannot be parsed: there is an @ behind the first / or #'),
        ("postgresql://u:hunter#2@db/x", '"{side}.url" cannot be parsed: there is an @ behind the first / or #'),
        (
            "postgresql://u:hunter%2@db/x",
            '"{side}.url" cannot be parsed: a % is not followed by two hexadecimal digits',
        ),
        ("postgresql://u:hunter@[::1/x", '"{side}.url" cannot be parsed: a bracket around an IPv6 address is missing'),
        ("postgresql://u:hunter@db/x#y", '"{side}.url" cannot be parsed: it holds a #'),
        ("5", '"{side}.url" must be text'),
        ("", '"{side}.url" has no value'),
    ],
)
def test_url_that_cannot_be_used_is_refused_without_being_shown(tmp_path: Path, side, url, said):
    error = refusal(tmp_path, with_url(side, url))
    assert error.what == said.replace("{side}", side)
    assert error.at == ("cdcflow.yaml:3:8" if url else "cdcflow.yaml:3:7")
    assert "hunter" not in error.report()


def test_unsupported_scheme_lists_those_supported_now(tmp_path: Path):
    error = refusal(tmp_path, with_url("source", "postgrs://db/x"))
    assert error.why == "supported now: amqp://, amqps://, kafka://, mariadb://, mysql://, postgres:// or postgresql://"
    assert error.do == "did you mean postgres://?"


def test_side_without_a_url_says_so(tmp_path: Path):
    error = refusal(tmp_path, MINIMAL.replace('source: {url: "postgresql://repl@db1:5432/shop"}', "source: {slot: x}"))
    assert (error.what, error.at) == ('"source.url" is missing', "cdcflow.yaml:2:1")


def test_typo_in_a_connectors_options_offers_its_own_keys(tmp_path: Path):
    error = refusal(tmp_path, with_url("source", "postgresql://db/x\n  snapshot: {worker: 2}"))
    assert (error.what, error.at, error.do) == ('unknown key "worker"', "cdcflow.yaml:4:14", 'did you mean "workers"?')
    error = refusal(tmp_path, with_url("target", "postgresql://db/x\n  slot: x"))
    assert error.what == 'unknown key "slot"'


def test_choice_between_a_boolean_and_a_word_names_both(tmp_path: Path):
    error = refusal(tmp_path, with_url("source", "postgresql://db/x\n  failover: autom"))
    assert error.what == '"source.failover" must be true or false or auto, not "autom"'
    assert error.do == 'did you mean "auto"?'


def test_all_problems_of_the_file_are_reported_at_once(tmp_path: Path):
    text = """\
pipeline: Shop
source: {url: "oracle://db/x"}
target: {url: "postgresql://u:${MISSING}@db/x", slott: 1}
tables: [{match: "public.*", on_delet: soft}]
memory: lots
"""
    error = refusal(tmp_path, text)
    places = [error.at, *(line.split(": ")[0] for line in error.why.splitlines() if line.startswith("cdcflow.yaml"))]
    assert places == [f"cdcflow.yaml:{place}" for place in ("1:11", "2:15", "3:15", "3:49", "4:30", "5:9")]


def test_secrets_are_in_no_repr_and_no_text(tmp_path: Path):
    text = with_url("source", "postgresql://u:${PASSWORD}@db/x?password=${PASSWORD}").replace(
        "postgresql://db/x", "postgresql://u:plainsecret@db/x"
    )
    config = loaded(tmp_path, text, PASSWORD="s3cr3t")
    for shown in (repr(config), str(config), repr(config.source), repr(config.rules), f"{config.target}"):
        assert "s3cr3t" not in shown
        assert "plainsecret" not in shown
    assert config.source.address == "postgresql://db/x"


def test_filled_in_value_that_is_wrong_is_not_shown(tmp_path: Path):
    error = refusal(tmp_path, with_line("batch: {max_rows: '${ROWS}'}"), ROWS="s3cr3t")
    assert error.what == '"batch.max_rows" must be a whole number'
    error = refusal(tmp_path, with_url("source", "${URL}"), URL="s3cr3t")
    assert error.what == '"source.url" is not a URL'


def test_numbers_may_be_filled_in(tmp_path: Path):
    config = loaded(tmp_path, with_line("batch: {max_rows: '${ROWS}'}\nmemory: ${MEMORY}"), ROWS="7", MEMORY="1GB")
    assert (config.batch.max_rows, config.memory) == (7, 10**9)


def test_placeholder_in_braces_without_quotes_is_explained(tmp_path: Path):
    error = refusal(tmp_path, "source: {url: postgresql://u:${PW}@db/x}\n")
    assert error.what.startswith("invalid YAML")
    assert error.do == "inside {...}, put quotes around a value that holds ${...}"


def test_environment_of_the_process_is_used_where_none_is_given(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CDCFLOW_TEST_PIPELINE", "from_env")
    path = written(tmp_path, MINIMAL.replace("pipeline: shop", "pipeline: ${CDCFLOW_TEST_PIPELINE}"))
    assert load(path).pipeline == "from_env"
