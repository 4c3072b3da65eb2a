//! Runs the tests that the table names: each executable once, with its own names. Cargo builds and
//! runs the tests that need a feature of this crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::table::{Row, Verdict};

/// Test files that exist only with a feature.
const FEATURES: [(&str, &str); 1] = [("packed_ring", "packed")];

/// Problems with the tests that the rows name.
pub fn problems(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, names) in named(rows) {
        if let Some((_, feature)) = FEATURES.iter().find(|(needs, _)| *needs == file) {
            problems.extend(run_with(&file, feature, &names));
            continue;
        }
        match executable(&file) {
            Ok(path) => problems.extend(run(&file, &path, &names)),
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// The tests that the rows name, by file.
fn named(rows: &[Row]) -> BTreeMap<String, BTreeSet<String>> {
    let mut named = BTreeMap::<_, BTreeSet<_>>::new();
    for row in rows.iter().filter(|row| row.verdict == Verdict::Test) {
        for name in row.evidence.split(' ') {
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            named
                .entry(file.to_string())
                .or_default()
                .insert(test.to_string());
        }
    }
    named
}

/// The newest executable of `tests/FILE/main.rs` in the folder of this executable, unless its
/// source is newer.
fn executable(file: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().expect("the path of this executable");
    let folder = this.parent().expect("the folder of this executable");
    let newest = fs::read_dir(folder)
        .expect("the folder can be read")
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stem = name
                .strip_suffix(std::env::consts::EXE_SUFFIX)
                .unwrap_or(&name);
            is_build_of(stem, file)
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match newest {
        None => Err(format!(
            "NO EXECUTABLE of tests/{file} in {}: there is no such test, or it was not built. \
             Build all with `cargo test --workspace`.",
            folder.display()
        )),
        Some((built, _)) if changed(root, file) > Some(built) => Err(format!(
            "tests/{file} has CHANGED since its executable was built. \
             Build all with `cargo test --workspace`."
        )),
        Some((_, path)) => Ok(path),
    }
}

/// Recognizes `FILE-0123456789abcdef`, the name that cargo gives to a build of FILE.
fn is_build_of(name: &str, file: &str) -> bool {
    name.strip_prefix(file)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// When the source of a test last changed: the newest file in its folder.
fn changed(root: &Path, file: &str) -> Option<SystemTime> {
    let mut sources = Vec::new();
    let mut folders = vec![root.join(file)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    let times = sources.iter().map(|path| fs::metadata(path)?.modified());
    times.filter_map(Result::ok).max()
}

/// Runs these tests of an executable; returns those that do not exist or do not pass.
fn run(file: &str, path: &Path, names: &BTreeSet<String>) -> Vec<String> {
    outcome(file, &mut Command::new(path), names)
}

/// Builds this file with a feature of this crate, and runs these tests of it.
fn run_with(file: &str, feature: &str, names: &BTreeSet<String>) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--features", feature, "--test", file, "--"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    outcome(file, &mut command, names)
}

/// Lets a command run only these tests; returns the problems.
fn outcome(file: &str, command: &mut Command, names: &BTreeSet<String>) -> Vec<String> {
    let output = command
        .arg("--exact")
        .args(names)
        .env("RUST_BACKTRACE", "0")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            let program = command.get_program().display();
            return vec![format!("{program} cannot be run: {error}")];
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("\nrunning ") {
        let why = String::from_utf8_lossy(&output.stderr);
        return vec![format!("tests/{file} did not run:\n{why}")];
    }
    let problems = judge(file, &text, names);
    if problems.is_empty() && !output.status.success() {
        return vec![format!(
            "tests/{file} ended with {}:\n{text}",
            output.status
        )];
    }
    problems
}

/// Compares the tests that ran with the expected ones.
fn judge(file: &str, output: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut outcomes = BTreeMap::new();
    for line in output.lines() {
        let outcome = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "));
        if let Some((name, outcome)) = outcome {
            // "NAME - should panic" stands for NAME.
            let name = name.split(" - ").next().unwrap_or(name);
            outcomes.insert(name, outcome);
        }
    }
    names
        .iter()
        .filter_map(|name| match outcomes.get(name.as_str()) {
            Some(&"ok") => None,
            Some(outcome) => Some(format!("{file}::{name} did not pass: {outcome}")),
            None => Some(format!("{file}::{name} does not exist")),
        })
        .collect()
}

#[cfg(test)]
fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_named_test_that_did_not_run_is_a_problem() {
    let output = "\nrunning 4 tests\ntest a::good ... ok\ntest bad ... FAILED\n\
                  test lazy ... ignored\ntest loud - should panic ... ok\n\ntest result: FAILED.\n";
    assert_eq!(
        judge("file", output, &set(&["a::good", "loud"])),
        Vec::<String>::new()
    );
    let problems = judge("file", output, &set(&["bad", "good", "lazy"]));
    assert_eq!(
        problems,
        [
            "file::bad did not pass: FAILED",
            "file::good does not exist",
            "file::lazy did not pass: ignored",
        ]
    );
}

#[test]
fn a_test_that_does_not_exist_is_found_by_running() {
    // This executable stands for all others.
    let this = std::env::current_exe().expect("this executable has a path");
    let real = "runs::a_named_test_that_did_not_run_is_a_problem";
    assert_eq!(
        run("conformance", &this, &set(&[real])),
        Vec::<String>::new()
    );
    let problems = run("conformance", &this, &set(&[real, "runs::no_such_test"]));
    assert_eq!(problems, ["conformance::runs::no_such_test does not exist"]);
}

#[test]
fn a_file_that_needs_a_feature_is_built_with_it() {
    let (file, feature) = FEATURES[0];
    let problems = run_with(file, feature, &set(&["no_such_test"]));
    assert_eq!(problems, ["packed_ring::no_such_test does not exist"]);
    let problems = run_with(file, "no_such_feature", &set(&["no_such_test"]));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("tests/packed_ring did not run"));
}

#[test]
fn a_missing_executable_is_named() {
    let rows = crate::table::parse("id\tverdict\tevidence\nmmio-01\ttest\tno_such_file::test");
    let problems = problems(&rows.expect("a table"));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("NO EXECUTABLE of tests/no_such_file"));
}

#[test]
fn an_executable_is_known_by_its_name() {
    assert!(is_build_of("reset-0123456789abcdef", "reset"));
    for other in [
        "reset",
        "reset-0123456789abcdef.d",
        "reset-0123456789abcde",
        "reset_all-0123456789abcdef",
        "a-reset-0123456789abcdef",
        "reset-0123456789abcdeg",
    ] {
        assert!(!is_build_of(other, "reset"), "{other}");
    }
}
