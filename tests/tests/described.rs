//! What a master says to programs, held to public tools: `/metrics` to Prometheus' own checker and to a strict reader of
//! OpenMetrics, the description of the API to a validator, and the API to requests that schemathesis makes of that description.
//!
//! The tools come from the machine's own sources of packages and from PyPI, and stay in `target/`.

use sai_tests::process::{Process, eventually};
use sai_tests::world::World;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What reads OpenMetrics.
const OPENMETRICS: [&str; 1] = ["prometheus-client==0.26.0"];

/// What validates a description, with all that it needs.
const VALIDATOR: [&str; 18] = [
    "openapi-spec-validator==0.9.0",
    "openapi-schema-validator==0.9.0",
    "jsonschema==4.26.0",
    "jsonschema-path==0.5.0",
    "jsonschema-specifications==2025.9.1",
    "attrs==26.1.0",
    "annotated-types==0.8.0",
    "lazy-object-proxy==1.13.0",
    "pathable==0.6.0",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "pydantic-settings==2.16.3",
    "python-dotenv==1.2.4",
    "pyyaml==6.0.4",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
];

/// What makes requests of a description, with all that it needs.
const REQUESTS: [&str; 27] = [
    "schemathesis==4.32.5",
    "anyio==4.16.0",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "click==8.5.1",
    "graphql-core==3.3.2",
    "harfile==0.6.0",
    "hypothesis==6.170.17",
    "hypothesis-graphql==0.13.5",
    "idna==3.20",
    "iniconfig==2.3.1",
    "jsonschema-rs==0.60.3",
    "markdown-it-py==4.3.0",
    "markupsafe==3.0.4",
    "mdurl==0.1.2",
    "packaging==26.4",
    "pluggy==1.7.0",
    "pygments==2.21.0",
    "pyrate-limiter==4.5.1",
    "pytest==9.2.0",
    "pyyaml==6.0.4",
    "requests==2.34.2",
    "rich==15.0.0",
    "sortedcontainers==2.4.0",
    "typing-extensions==4.16.0",
    "urllib3==2.8.0",
    "werkzeug==3.1.9",
];

/// Runs a command and gives what it printed, or panics with it.
fn well(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

fn target() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    fs::create_dir_all(&target).expect("a directory");
    target.canonicalize().expect("a directory")
}

/// What PyPI has of these versions, put into a directory of its own once.
fn pypi(name: &str, versions: &[&str]) -> PathBuf {
    let place = target().join(name);
    let install = "test \"$(cat \"$1/installed.txt\" 2>/dev/null)\" = \"$2\" || { rm -rf \"$1\" && timeout 300 python3 -m pip install \
        --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target \"$1\" $2 && \
        echo \"$2\" > \"$1/installed.txt\"; }";
    let mut command = Command::new("flock");
    command.arg(place.with_extension("lock")).args(["sh", "-c", install, "sh"]).arg(&place).arg(versions.join(" "));
    well(&mut command);
    place
}

/// Prometheus' checker, out of Debian's package, which has much more in it and is therefore not installed.
fn promtool() -> PathBuf {
    let place = target().join("promtool");
    let take = "test -x \"$1/promtool\" || { mkdir -p \"$1\" && cd \"$1\" && timeout 300 apt-get -qq download prometheus && \
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > taken && rm prometheus_*.deb && \
        chmod 755 taken && mv taken promtool; }";
    let mut command = Command::new("flock");
    well(command.arg(place.with_extension("lock")).args(["sh", "-c", take, "sh"]).arg(&place));
    place.join("promtool")
}

/// Gives a program a text, and what came of it.
fn given(command: &mut Command, text: &[u8]) -> (bool, String) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Who does not read to the end has seen enough.
    let _ = child.stdin.take().expect("a pipe").write_all(text);
    let output = child.wait_with_output().expect("it ends");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A master with something of everything: jobs that passed and failed with their files and test cases, units, people.
fn built(name: &str) -> (World, Process, String) {
    let mut world = World::new(name);
    world.set("builtin", "{\"slots\": 2, \"platforms\": [\"linux\"]}");
    world.set("units", "{\"licences\": 1}");
    let master = world.master();
    world.repository.push_saifile(
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "echo TAP version 13; echo ok 1 - fine; echo 1..1; ${end}" } },
            "configurations": { "good": { "end": "echo x > out", "artifacts": "out", "units": ["licences"] },
            "bad": { "end": "exit 1" } } }"#,
    );
    eventually("both jobs end", || world.event(1).filter(|event| event.jobs.iter().all(|job| job.ended())));
    let token = world.command(&["user", "add", "root", "admin"]).trim().to_string();
    (world, master, token)
}

#[test]
fn figures_are_what_prometheus_and_openmetrics_have() {
    let (world, _master, _) = built("described-figures");
    let figures = world.get("/metrics").expect("figures");
    let (fine, said) = given(Command::new(promtool()).args(["check", "metrics"]), &figures);
    assert!(fine && said.is_empty(), "{said}\n{}", String::from_utf8_lossy(&figures));
    let read = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                names = [family.name for family in read(sys.stdin.read())]\nassert len(names) > 5, names\nprint(*names)";
    let mut reader = Command::new("python3");
    reader.env("PYTHONPATH", pypi("openmetrics", &OPENMETRICS)).args(["-c", read]);
    let (fine, said) = given(&mut reader, &figures);
    assert!(fine && said.contains("sai_"), "{said}");
    // Each of them does find what is wrong.
    let text = String::from_utf8(figures).expect("UTF-8");
    let cut = text.replace("# EOF\n", "");
    assert_ne!(cut, text);
    assert!(!given(&mut reader, cut.as_bytes()).0, "an end that is missing");
    let nameless = format!("2bad{{}} x\n{text}");
    assert!(!given(Command::new(promtool()).args(["check", "metrics"]), nameless.as_bytes()).0, "a name that is none");
}

#[test]
fn the_description_of_the_api_is_valid_and_the_api_is_as_it_says() {
    let (world, _master, token) = built("described-api");
    let description = world.get("/api/v1/openapi.json").expect("a description");
    let file = world.directory.join("openapi.json");
    let validator = pypi("openapi-validator", &VALIDATOR);
    let validate = |text: &[u8]| {
        fs::write(&file, text).expect("a file");
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &validator).args(["-m", "openapi_spec_validator"]).arg(&file);
        given(&mut command, b"")
    };
    let (fine, said) = validate(&description);
    assert!(fine && said.contains("OK"), "{said}");
    let broken =
        String::from_utf8(description).expect("UTF-8").replacen("\"in\": \"query\"", "\"in\": \"somewhere\"", 1);
    assert!(!validate(broken.as_bytes()).0, "a parameter that is nowhere");
    // 501 is what RFC 9110 has for methods that are not known at all; those that are, but not there, are tried.
    let tried = "[phases.coverage]\nunexpected-methods = [\"PUT\", \"PATCH\", \"DELETE\", \"OPTIONS\"]\n";
    fs::write(world.directory.join("schemathesis.toml"), tried).expect("a file");
    // Requests of all kinds, right ones and wrong ones, by somebody who may do everything.
    let mut requests = Command::new("python3");
    requests
        .env("PYTHONPATH", pypi("schemathesis", &REQUESTS))
        .current_dir(&world.directory)
        .args([
            "-m",
            "schemathesis.cli",
            "run",
            "--no-color",
            "--tls-verify",
            "false",
            "--max-time",
            "15",
            "--seed",
            "1",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--generation-database", "none"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .arg(format!("https://127.0.0.1:{}/api/v1/openapi.json", world.port));
    let (fine, said) = given(&mut requests, b"");
    assert!(fine, "{said}");
}
