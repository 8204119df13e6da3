//! The binary as an operator meets it: exit codes, usage, what stands on which stream. Needs no privilege and no agent.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const GOOD: &str = r#"[agent]
interfaces = ["eth0"]

[[service]]
name = "web"
vip = ["203.0.113.10"]
port = 80
protocol = "tcp"
internal_port = 8080

[[service.backend]]
address = "10.0.0.11"
"#;

fn xlb(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xlb"));
    command.args(args).env_clear();
    command
}

fn output(args: &[&str]) -> Output {
    xlb(args).output().expect("xlb starts")
}

fn config(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("xlb.toml");
    fs::write(&path, text).expect("write the config");
    (directory, path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_good_file_is_exit_code_0() {
    let (_directory, path) = config(GOOD);
    let output = output(&["check", &path.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("ok, 1 service, 1 backend, 0 warnings"));
}

#[test]
fn a_file_on_standard_input_is_checked_and_what_has_no_end_is_not_read() {
    let (_directory, path) = config(GOOD);
    let stdin = fs::File::open(&path).expect("open the config");
    let output = xlb(&["check", "-"]).stdin(stdin).output().expect("xlb starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = xlb(&["check", "/dev/zero"]).output().expect("xlb starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("config /dev/zero: it is a device, and a config is a regular file"),
        "{said}"
    );
}

#[test]
fn a_bad_file_shows_every_error_with_its_place_and_is_exit_code_1() {
    let (_directory, path) = config(
        &GOOD
            .replace("protocol", "protokol")
            .replace("port = 80\n", "port = 0\n"),
    );
    let output = output(&["check", &path.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    for wanted in [
        "protokol",
        "did you mean protocol?",
        "xlb.toml:7:",
        "xlb.toml:8:",
        "nothing was applied",
    ] {
        assert!(stdout.contains(wanted), "'{wanted}' is missing in:\n{stdout}");
    }
}

#[test]
fn a_file_that_is_not_text_names_the_byte() {
    let (_directory, path) = config("");
    fs::write(&path, b"[agent]\ninterfaces = [\"\xff\"]\n").expect("write the config");
    let output = output(&["check", &path.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(shown.contains("XLB0002") && shown.contains("not UTF-8"), "{shown}");
}

#[test]
fn a_check_in_json_names_code_line_and_column() {
    let (_directory, path) = config(&GOOD.replace("protocol", "protokol"));
    let output = output(&["check", &path.to_string_lossy(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let found = view["diagnostics"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(
        found
            .iter()
            .any(|found| found["line"] == 8 && found["column"] == 1 && found["code"] == "XLB0101"),
        "{view}"
    );
    assert_eq!((&view["schema"], &view["ok"]), (&1.into(), &false.into()));
}

#[test]
fn a_check_refuses_what_the_agent_would_refuse_for_want_of_roots() {
    let (_directory, path) = config(&GOOD.replace("port = 80\n", "port = 80\ncheck = { https = {} }\n"));
    let mut command = xlb(&["check", &path.to_string_lossy()]);
    let none = path.with_file_name("none.pem");
    command.env("SSL_CERT_FILE", &none).env("SSL_CERT_DIR", &none);
    let refused = command.output().expect("xlb starts");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("roots"), "{refused:?}");
    let refused = command.args(["-o", "json"]).output().expect("xlb starts");
    let view: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("one JSON document");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        !view["ok"].as_bool().unwrap_or(true) && view["error"].is_string(),
        "{view}"
    );
}

#[test]
fn a_missing_file_is_one_json_document_too_and_the_schema_is_one() {
    let missing = output(&["check", "-o", "json", "/nonexistent/xlb.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    let view: serde_json::Value = serde_json::from_slice(&missing.stdout).expect("one JSON document");
    assert!(view["error"].is_string(), "{view}");
    let schema = output(&["schema"]);
    assert_eq!(schema.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("one JSON document");
    assert!(schema["properties"]["agent"].is_object(), "{schema}");
}

#[test]
fn a_bad_config_at_start_is_exit_code_78_before_anything_is_touched() {
    let (_directory, path) = config("[agent]\n");
    let output = output(&["run", "--config", &path.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(text(&output.stderr).contains("interfaces"), "{output:?}");
    let missing = path.with_file_name("none.toml");
    let run = xlb(&["run", "--config", &missing.to_string_lossy()])
        .output()
        .expect("xlb starts");
    assert_eq!(run.status.code(), Some(78));
    // What it says is read, and typed, in other directories than its own.
    let here = path.parent().expect("a directory");
    let run = xlb(&["run", "--config", "xlb.toml"]).current_dir(here).output();
    let said = text(&run.expect("xlb starts").stderr);
    assert!(said.contains(&path.display().to_string()), "{said}");
}

#[test]
fn every_client_command_without_an_agent_is_exit_code_3_and_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("api.sock");
    let commands: [&[&str]; 14] = [
        &["override", "list"],
        &["override", "save", "--all"],
        &["override", "drop", "web", "a"],
        &["backend", "list"],
        &["backend", "list", "web", "-o", "json"],
        &["backend", "weight", "web", "a", "50"],
        &["backend", "drain", "web", "a", "--wait", "--timeout", "1s"],
        &["backend", "ready", "web", "a"],
        &["backend", "maint", "web", "a", "--runtime"],
        &["status"],
        &["drops"],
        &["reload"],
        &["backend", "add", "web", "10.0.0.9:80"],
        &["backend", "remove", "web", "a"],
    ];
    for args in commands {
        let by_flag = xlb(args).arg("--socket").arg(&socket).output().expect("xlb starts");
        let by_environment = xlb(args).env("XLB_SOCKET", &socket).output().expect("xlb starts");
        for output in [by_flag, by_environment] {
            assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
            assert!(output.stdout.is_empty());
            let stderr = text(&output.stderr);
            assert!(
                stderr.contains(&*socket.to_string_lossy()) && stderr.contains("next: "),
                "{stderr}"
            );
        }
    }
}

#[test]
fn usage_errors_are_exit_code_2_on_standard_error() {
    let commands: [&[&str]; 14] = [
        &["init", "--vip", "example.org"],
        &["init", "--backend", "10.0.0.11:0"],
        &["init", "--force"],
        &["override", "drop"],
        &["override", "save", "web", "a", "--all"],
        &[],
        &["backend", "weight", "web", "a", "1001"],
        &["backend", "drain", "web", "a", "--timeout", "1m"],
        &["backend", "drain", "web"],
        &["nonsense"],
        &["status", "-o", "yaml"],
        &["backend", "add", "web", "not-an-address"],
        &["backend", "add", "web", "10.0.0.9:0"],
        &["drops", "--interval", "2"],
    ];
    for args in commands {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn help_and_version_are_exit_code_0_on_standard_output() {
    for args in [&["--help"][..], &["--version"], &["backend", "add", "--help"]] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stdout.is_empty());
    }
    assert!(text(&output(&["--help"]).stdout).contains("78 bad config at start"));
}

/// Every command that needs no agent.
const WITHOUT_AGENT: [&[&str]; 10] = [
    &["--help"],
    &["--version"],
    &["backend", "--help"],
    &["check"],
    &["check", "-o", "json"],
    &["schema"],
    &["explain"],
    &["explain", "-o", "json"],
    &["man"],
    &["completions", "bash"],
];

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_directory, path) = config(GOOD);
    let completing: &[&str] = &["--", "xlb", ""];
    for args in WITHOUT_AGENT.into_iter().chain([completing]) {
        let mut command = xlb(args);
        if args == completing {
            command.env("XLB_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "1");
        }
        let mut child = command
            .env("XLB_CONFIG", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("xlb starts");
        // Closed before the first byte: every write meets a broken pipe.
        drop(child.stdout.take());
        let status = child.wait().expect("xlb ends");
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut stderr)
            .expect("text");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let (_directory, path) = config(GOOD);
    for args in WITHOUT_AGENT {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut command = xlb(args);
        let output = command
            .env("XLB_CONFIG", &path)
            .stdout(full)
            .output()
            .expect("xlb starts");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(
            text(&output.stderr).contains("No space left on device"),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn what_is_no_terminal_gets_no_colour_and_a_terminal_none_with_no_color() {
    let (_directory, path) = config(GOOD);
    for args in WITHOUT_AGENT {
        let mut command = xlb(args);
        let output = command
            .env("XLB_CONFIG", &path)
            .env("TERM", "xterm")
            .output()
            .expect("xlb starts");
        // A zsh or fish script may well name escapes; none is one.
        assert!(
            !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b),
            "{args:?}"
        );
    }
    let wrong = xlb(&["nonsense"]).env("TERM", "xterm").output().expect("xlb starts");
    assert!(!wrong.stderr.contains(&0x1b), "{wrong:?}");
    // script(1) gives a command a terminal.
    if !is_there("script") {
        eprintln!("SKIP what_is_no_terminal_gets_no_colour: no script(1), package bsdutils");
        return;
    }
    let on_a_terminal = |no_color: Option<&str>| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} --help", env!("CARGO_BIN_EXE_xlb")), "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        command.output().expect("script starts").stdout
    };
    assert!(on_a_terminal(None).contains(&0x1b));
    assert!(!on_a_terminal(Some("1")).contains(&0x1b));
}

fn is_there(program: &str) -> bool {
    let mut version = Command::new(program);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok()
}

#[test]
fn completion_scripts_parse_in_the_shells_they_are_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{script:?}");
        assert!(text(&script.stdout).contains("XLB_COMPLETE"), "{shell}");
        if !is_there(shell) {
            eprintln!("SKIP completion_scripts_parse, for {shell}: not installed; 'cargo xtask setup' does");
            continue;
        }
        let file = directory.path().join(shell);
        fs::write(&file, &script.stdout).expect("write the script");
        let parsed = Command::new(shell)
            .arg("-n")
            .arg(&file)
            .output()
            .expect("the shell starts");
        assert!(
            parsed.status.success() && parsed.stderr.is_empty(),
            "{shell}: {parsed:?}"
        );
    }
}

#[test]
fn nothing_loaded_is_nothing_to_unload() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pins = directory.path().join("xlb");
    let output = output(&["unload", "--pin-dir", &pins.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("nothing is loaded"));
}

#[test]
fn a_log_filter_without_meaning_is_a_usage_error_that_says_what_there_is() {
    for filter in ["inof", "lb_userspace=inof"] {
        let output = output(&["run", "--log", filter]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("next: --log info"), "{output:?}");
    }
}

#[test]
fn explain_needs_no_agent_and_an_unknown_name_is_exit_code_2() {
    for (name, wanted) in [
        ("203", "XLB0203  error"),
        ("no_backend", "drop reason"),
        ("Filtered", "port verdict"),
    ] {
        let output = output(&["explain", name]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains(wanted), "{output:?}");
    }
    let listed = output(&["explain", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("one JSON document");
    assert_eq!(listed["schema"], 1);
    assert!(listed["topics"].as_array().is_some_and(|all| all.len() > 80));
    let wrong = output(&["explain", "no_backends"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stdout.is_empty());
    assert!(text(&wrong.stderr).contains("did you mean 'no_backend'?"), "{wrong:?}");
}
